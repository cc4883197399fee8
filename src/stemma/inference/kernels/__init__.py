"""Machine code for decoding: one step of a decoder-only Transformer, all layers in one call.

In torch a step of a small model is some 500 operations, and what each costs to start is more than
what it computes. Here a step is one function per core, bound by how fast weights come from memory.
The readable twin of all of it is `stemma.models.Transformer`, which the tests compare with.
"""
