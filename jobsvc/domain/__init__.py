"""
The rules of a job: words, events, commands, the state machine, the decider, keys and errors.

All of it is pure: time and ids come in as arguments, and nothing here reads a clock, draws a number, logs or waits.
It knows nothing of the rest of the service.
"""
