"""
The decisions, by what is asked: the events that follow from one command, and the words they share.

One file for each kind of question (create, end, work, own, time), and decider.py leads from a command to its function.
Pure: time, ids and the job come in with the situation. What must never live here: a rule about a state, which is the
machine's, or a look-up.
"""
