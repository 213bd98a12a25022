"""What the generator is compared with, timed in the same run."""

from salgan_edge.benchmarks.peers.peer import PEERS, Peer, PeerUnavailableError

__all__ = ["PEERS", "Peer", "PeerUnavailableError"]
