"""Looking at tokenizers: how they cut a text, why, how they compare, and what is in them.

`cuts` and `replay` say how one text is cut; `comparison`, `samples` and `languages` set several
tokenizers side by side; `statistics` describes one. Each gives plain data; `terminal`, `tables`,
`page` and `figures` show it.
"""
