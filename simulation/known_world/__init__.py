"""A world whose true probabilities are known: users who are drawn from stated distributions.

The way through it:

1. `parameters` holds every number of the world; `tastes` fits users and items on real ratings.
2. `people` draws users, `offers` what could be sent to them at each slot.
3. `chances` gives the probabilities of one slot, `play` draws what happens from them.
4. `truth` computes from the same probabilities what was to be expected of each decision.
5. `logging` makes the training log: features and labels by the ranker's own code.

Users don't act on each other, so they are played in blocks, each with its own random numbers.
"""
