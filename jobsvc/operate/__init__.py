"""
What an operator does to a log: rebuild a view, verify all of it, replay it against today's machine.

Each makes a plan first and then acts, through the ledger or the store like anyone else.
Nothing here parses arguments or prints; that is the command line's and the edge's part.
"""
