"""Unicode 16.0 as tables of our own: ids must not change with the version that Python happens to
have.
"""
