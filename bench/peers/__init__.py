"""What peers of Rank run inside their own environments, and how calls travel to them.

Nothing here imports anything of ours but its neighbours, NumPy, ONNX Runtime and the peer.
"""
