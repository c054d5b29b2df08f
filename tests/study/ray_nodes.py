"""Two nodes of Ray on this machine, a core each: ``ray_nodes.py FOLDER``.

It prints their address, loses the second node when a line comes, and ends with its standard input.
"""

import os
import sys

os.environ |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": sys.argv[1]}
from ray.cluster_utils import Cluster

said, sys.stdout = sys.stdout, sys.stderr
node = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "node_ip_address": "127.0.0.1"}
cluster = Cluster()


def start(**settings):
    """A node. On a busy machine its parts do not always find each other in the 30 seconds that Ray gives them."""
    for left in (2, 1, 0):
        try:
            return cluster.add_node(**node, **settings)
        except Exception:
            if not left:
                raise


start(include_dashboard=False)
second = start()
print(cluster.address, file=said, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    sys.stdin.read()
cluster.shutdown()
