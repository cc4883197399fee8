"""Cutting text into words before BPE, so that no token reaches over the edge of one.

`patterns` names the rules of well-known models; `pattern` reads such a rule; `machine` makes a
state machine of it; `words` cuts text, readably with ``re`` or fast with the machine.
"""
