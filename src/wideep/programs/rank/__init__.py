"""Holds the ranks of one replica together: they are a gang, which lives and ends as one.

Each rank's service is this program, which runs the engine's command as its child. The head listens, the
other ranks keep a connection to it. None starts before all are there; when one child ends, or one
connection is lost or silent, all children are stopped, what they left is cleaned, and all start again
together, later each time.

Where the head's command starts the other ranks' processes by itself (mpirun), these have no command of their
own. In ssh's place it calls launch_agent, whose words the head relays: the rank of that host runs them.

Not a watchdog of the engine: a rank that hangs is seen by the engine's own watchdog or the head's health.

Imports are relative: on hosts the package lies in an archive by itself.
"""

# In the child's environment, what stands for the interface to the other ranks.
ROUTE = "{route}"
