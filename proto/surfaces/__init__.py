"""What `make gen` makes of the contract beside stubs: one file a surface.

They read generated modules, so generate.py imports them when those stand.
"""
