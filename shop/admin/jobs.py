"""Take procrastinate's own page of jobs away: it shows the arguments of every job.

It also offers its buttons to retry and cancel jobs to users who may only look.
"""

from django.contrib import admin
from procrastinate.contrib.django import admin as _  # noqa: F401  (registers, and only once)
from procrastinate.contrib.django.models import ProcrastinateJob

admin.site.unregister(ProcrastinateJob)
