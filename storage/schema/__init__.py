"""The ground: pure values and their exact bytes, which every other package may import."""
