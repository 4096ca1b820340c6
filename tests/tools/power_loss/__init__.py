"""The loss of power: does all that buyers were told survive it?

    python -m tests.tools.power_loss [--times N] [--seed N] [--file-system ext4|xfs]
                                     [--without fsync|synchronous_commit]

Only for root. PostgreSQL runs on a small file system of its own, on a loop device. Buyers reserve,
order and pay by the shop's own functions, and keep a list of all that they were told. At random
moments the file system is shut down: nothing that it has only in memory reaches its device any
more, neither pages nor journal. All processes of PostgreSQL are killed, the file system is mounted
again, and PostgreSQL starts. Both recover by their logs. Then all that was ever told must be true,
each page must be readable, and the law must hold.

``--without`` switches off what the shop relies on. Then the tool must find that something is lost:
this shows that the pages in memory are really gone.

It shows that PostgreSQL and the file system hand everything to the device, and ask it to keep that,
before a buyer is told. It doesn't show that a disk keeps what it was asked to keep: the loop
device's file is on a disk that has power all the time.
"""
