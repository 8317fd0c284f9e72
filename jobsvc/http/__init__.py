"""
The edge: HTTP requests become commands and queries, outcomes become answers.

Here live the routes, who may call them, and the problems that refusals are told as.
No rule about jobs lives here, and nothing here writes: every command goes to the ledger.
"""
