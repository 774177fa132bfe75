"""The checks of the contract kit, by what they are about. `contract.py` puts them together."""
