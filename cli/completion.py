"""``caretrace completion``: what a shell needs to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from cli.command import Verb
from cli.output import Answer

PROGRAM = "caretrace"
_VARIABLE = "_CARETRACE_COMPLETE"


@click.command(
    cls=Verb,
    example=(
        'eval "$(caretrace completion bash)"          # in ~/.bashrc\n'
        'eval "$(caretrace completion zsh)"           # in ~/.zshrc\n'
        "caretrace completion fish | source           # in ~/.config/fish/config.fish"
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> Answer:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None, "click completes all three shells"
    root = ctx.find_root().command
    script = kind(root, {}, PROGRAM, _VARIABLE).source()
    return Answer({"shell": shell, "script": script}, script)
