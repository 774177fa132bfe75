"""What connectors have in common besides the interface: tokens, pages, signatures, texts, times, urllib3's connections.

Small parts to be taken one by one; none of them knows a platform, and no flow uses them.
"""
