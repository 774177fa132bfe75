"""Platforms to practise on: emulators of Kirim and of CRMs as real servers on the loopback interface.

They keep a ledger of what they really did, go wrong on demand or from a seed, and offer each reading of what a
platform's documents leave open. Nothing here is used by the product in operation.
"""
