"""What the generator is compared with, timed in the same run."""

from salgan_edge.benchmarks.peers.choose import PEERS, peer_subjects
from salgan_edge.benchmarks.peers.peer import Peer, PeerUnavailableError

__all__ = ["PEERS", "Peer", "PeerUnavailableError", "peer_subjects"]
