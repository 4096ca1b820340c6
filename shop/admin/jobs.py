"""Background jobs have no page here: procrastinate's own shows what each was asked to do with.

Its buttons to retry and cancel jobs would also be there for those who may only look.
"""

from django.contrib import admin
from procrastinate.contrib.django import admin as _  # noqa: F401  (registers, and only once)
from procrastinate.contrib.django.models import ProcrastinateJob

admin.site.unregister(ProcrastinateJob)
