from django.db import models
from treebeard.mp_tree import MP_Node
from treebeard.ns_tree import NS_Node


class Category(MP_Node):
    """A node knows its path from the root: 00020001 is the first child of 0002."""

    name = models.CharField(max_length=30)

    class Meta:
        db_table = "category"


class Department(NS_Node):
    """A node knows the numbers that it stands between: nested sets."""

    name = models.CharField(max_length=30)

    class Meta:
        db_table = "department"
