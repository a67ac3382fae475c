"""The NumPy definition of each operation: the oracle of the tests. Imports no kernel."""
