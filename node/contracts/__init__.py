"""The rules: pure functions of state, call and block time that every validator computes alike."""
