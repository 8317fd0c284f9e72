"""
The job-state service: a log of what happened to each job, and everything that is told from it.

Here lives the version and nothing else: importing the package costs nothing and starts nothing.
The parts stand in layers, and imports point down only: cli, app, http, sweeper and operate, feed, ledger, framing,
projections, store, domain.
"""

__version__ = "0.1.0"
