"""How good one output of a network is on one frame, against its label; and what the difference of two stages means.

The rule: a metric gives one number per frame, so that the stages of a network can be compared frame by frame.
"""
