from django.conf import settings
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver


class ConcertQuerySet(models.QuerySet):
    def take_a_seat(self, pk):
        return self.filter(pk=pk).update(seats=models.F("seats") - 1)


class Tag(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name


class Concert(models.Model):
    name = models.CharField(max_length=100)
    seats = models.IntegerField()
    tags = models.ManyToManyField(Tag)

    objects = ConcertQuerySet.as_manager()

    def __str__(self):
        return self.name


class Booking(models.Model):
    concert = models.ForeignKey(Concert, on_delete=models.CASCADE)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    email = models.EmailField()
    is_cancelled = models.BooleanField(default=False)

    def __str__(self):
        return self.email

    def cancel(self):
        self.is_cancelled = True
        self.save()


class Wallet(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    cents = models.IntegerField()

    def __str__(self):
        return str(self.user)


class Log(models.Model):
    text = models.CharField(max_length=100)

    def __str__(self):
        return self.text


@receiver(post_save, sender=Booking)
def note_booking(sender, instance, **kwargs):
    Log.objects.create(text=f"booking {instance.pk}")
