"""Agreement on the order of blocks: pure state machines that do no I/O of their own."""
