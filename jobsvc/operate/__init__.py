"""
What an operator does to a log: rebuild, verify, explain, state-at, export, backup, archive, erase.

Each verb makes a plan first and then acts, through the ledger or the store like anyone else.
Nothing here parses arguments or prints; that is the command line's and the edge's part.
"""
