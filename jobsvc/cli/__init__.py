"""
The command line: arguments in, text out.

Here lives one file for each family of verbs.
No verb decides anything about a job; it asks the service or reads the log.
"""
