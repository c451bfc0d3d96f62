from node.metrics import Metrics


def test_every_figure_has_a_name_of_ours_and_words_that_explain_it() -> None:
    text = Metrics().render().decode()

    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]
    explained = [line.split()[2] for line in text.splitlines() if line.startswith("# HELP ") and len(line.split()) > 4]
    assert names == explained
    assert "caretrace_height" in names
    assert {name for name in names if not name.startswith("caretrace_")} == set()


def test_a_committed_block_counts_its_transactions_and_its_refusals_apart() -> None:
    metrics = Metrics()

    metrics.committed(5, 2)
    metrics.committed(0, 0)

    lines = metrics.render().decode().splitlines()
    for line in (
        "caretrace_blocks_committed_total 2.0",
        "caretrace_synced_batches_total 0.0",
        "caretrace_transactions_committed_total 5.0",
        "caretrace_transactions_refused_total 2.0",
    ):
        assert line in lines


def test_two_nodes_in_one_process_count_for_themselves() -> None:
    first, second = Metrics(), Metrics()

    first.signatures_verified.inc(3)
    first.height.set(7)

    assert b"caretrace_signatures_verified_total 3.0" in first.render()
    assert b"caretrace_signatures_verified_total 0.0" in second.render()
    assert b"caretrace_height 0.0" in second.render()
