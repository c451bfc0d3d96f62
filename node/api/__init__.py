"""HTTP of one node: what the operator's socket answers, and the two health questions on TCP; no rules of its own."""
