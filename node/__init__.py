"""A hospital's node: contracts, their execution, the network, the vault, the API, and the runtime that wires them."""
