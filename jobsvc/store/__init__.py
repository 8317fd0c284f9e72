"""
Where the log is kept: events, the rows that follow from them, and the keys, in one transaction.

Here live the seam that the rest of the service sees, and the engines behind it.
No rule about jobs lives here; SQL lives in .sql files beside the engines and nowhere else.
"""
