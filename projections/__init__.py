"""
The read models: each a fold of the log into rows.

Here live the views that ship with the service and the runner that feeds them.
They know the domain and the seam of the store, and nothing else of the service; but for the runner they are pure.
"""
