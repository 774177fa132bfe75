"""Tools for those who write connectors: a contract kit, and a CRM in memory.

`contract.ConnectorContract` needs pytest and hypothesis; `memory.MemoryCrm` needs nothing.
"""
