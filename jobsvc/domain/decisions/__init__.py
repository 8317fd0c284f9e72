"""
The decisions, by what is asked: the events that follow from one command, and the words they share.
"""
