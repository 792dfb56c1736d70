"""The apply of a plan: its threads, its calls, its observations, and the calls in doubt.

execute   carries out a plan: order of the steps, threads, and the end of an apply that has to stop
action    carries out one action: observes the job, decides again, and sends the calls
calls     makes one call: intent on disk, request, result on disk
outcomes  makes the outcome of an action from the answer to its last call
context   holds what all of these take from outside, and whether anything new may start
observe   observes many jobs
settle    settles the calls in doubt
"""
