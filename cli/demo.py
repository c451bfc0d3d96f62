"""``caretrace demo``: the whole story on a four-hospital network, in about a minute."""

import shlex
import shutil
import sys
import tempfile
from pathlib import Path

import click

from cli.cluster import Cluster, taking_down_when_ended
from cli.command import Verb
from cli.fhir_bundle import read_folder
from cli.output import Answer
from cli.story import Story
from cli.story_cast import cast
from cli.story_stage import Stage
from cli.testnet import close_network, open_network

PATIENTS = Path(__file__).parent / "patients"
PATIENTS_MAX = 8


@click.command(cls=Verb, example="caretrace demo\ncaretrace demo --keep --input my-bundles/")
@click.option("--nodes", "count", default=4, show_default=True, type=click.IntRange(4, 7), help="How many hospitals.")
@click.option("--keep", is_flag=True, help="Leave the network up, and say how to talk to it.")
@click.option(
    "--input",
    "bundles_folder",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=PATIENTS,
    help="Folder of FHIR R4 Bundles.  [four synthetic patients]",
)
@taking_down_when_ended()
def demo(count: int, keep: bool, bundles_folder: Path) -> Answer:
    """Tell the story: enrolment, records, consent, a read, refusals, a crash, and proofs of it all.

    The people and their records are the Bundles'; the physician of the second hospital is invented, and so is a
    label where the Bundles have none.
    """
    bundles, parts = cast(read_folder(bundles_folder, lambda words: click.echo(f"passed over: {words}", err=True)))
    folder = Path(tempfile.mkdtemp(prefix="caretrace-demo-"))
    stage = Stage(folder)
    kept = False
    try:
        stage.scene(f"{count} hospitals start, each with a node of its own")
        cluster = open_network(stage.folder, count, "pbft", None, stage.say)
        try:
            stage.say(f"chain {cluster.network}: all {count} are ready and agree")
            if len(bundles) > PATIENTS_MAX:
                stage.say(f"of {len(bundles)} Bundles, {PATIENTS_MAX} play")
            Story(stage, cluster, bundles[:PATIENTS_MAX], parts).tell()
            kept = keep
        finally:
            if not kept:
                close_network(cluster)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    elapsed = stage.elapsed_s
    fields = {"ok": True, "seconds": round(elapsed, 1), "dir": str(cluster.folder) if kept else None}
    return Answer(
        fields, _kept_text(cluster) if kept else f"\nAll of it held, in {elapsed:.0f} s. Nothing is left running."
    )


def _kept_text(cluster: Cluster) -> str:
    programs = shlex.quote(str(Path(sys.executable).parent))
    on_path = "" if shutil.which("caretrace") else f"  export PATH={programs}:$PATH\n"
    return (
        f"\nThe network stays up in {cluster.folder}. Talk to it:\n"
        f"{on_path}"
        f"  export CARETRACE_TESTNET={shlex.quote(str(cluster.folder))}\n"
        "  caretrace testnet status\n"
        "  caretrace key list\n"
        "  caretrace status --node north\n"
        "  caretrace testnet clean        # stops it and removes everything"
    )
