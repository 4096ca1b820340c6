import json

from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.cache import cache
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views import View
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.generic import CreateView, DeleteView, TemplateView, UpdateView
from restlike import ModelViewSet

from tickets import services
from tickets.forms import BookingForm, SearchForm
from tickets.models import Booking, Concert, Log, Tag


def own_decorator(view):
    def inner(request, *args, **kwargs):
        cache.get("something")
        return view(request, *args, **kwargs)

    return inner


@require_POST
@transaction.atomic
def book(request, pk):
    concert = get_object_or_404(Concert, pk=pk)
    if concert.booking_set.count() >= concert.seats:
        return HttpResponse("Sold out.", status=409)
    Booking.objects.create(concert=concert, email=request.POST["email"])
    return HttpResponse("See you there.")


@login_required
@require_http_methods(["GET", "POST"])
@own_decorator
def pay(request, pk):
    services.Payment(get_object_or_404(Booking, pk=pk)).charge()
    return redirect("/")


@own_decorator
@require_POST
def cancel(request, pk):
    Booking.objects.get(pk=pk).cancel()
    return redirect("/")


@require_POST
@transaction.atomic
def cancel_safely(request, pk):
    Booking.objects.select_for_update().get(pk=pk).cancel()
    return redirect("/")


@require_safe
def index(request):
    return HttpResponse(Concert.objects.count())


def by_form(request):
    """Looks at the method itself."""
    concert = Concert.objects.first()
    form = BookingForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        booking = form.save(commit=False)
        booking.concert = concert
        booking.save()
        return redirect("/")
    return render(request, "form.html", {"form": form})


def search(request):
    """Takes any method, and changes nothing."""
    return HttpResponse(Concert.objects.filter(name=SearchForm(request.GET).data.get("words")))


@require_POST
def take_a_seat(request, pk):
    services.take_a_seat(pk)
    services.later(pk)
    return HttpResponse()


@require_POST
def take_two_seats(request, pk):
    Concert.objects.take_a_seat(pk)
    Concert.objects.take_a_seat(pk)
    return HttpResponse()


@require_POST
def mystery(request):
    services.save_somehow(request.thing)
    return HttpResponse()


@require_POST
def without_sql(request):
    return HttpResponse("Nothing is asked.")


@require_POST
def elsewhere(request):
    return HttpResponse(Concert.objects.using("other").count())


@require_POST
def crash(request):
    raise KeyError(str(Concert.objects.count()))


@require_POST
def cached(request, pk):
    """Only the first one writes, as the cache tells; it must be empty before each schedule."""
    if cache.add("first", 1):
        Log.objects.create(text="first")
    return HttpResponse(Log.objects.count())


@require_POST
def count(request):
    """The answer's status tells how often the same browser has asked."""
    request.session["asked"] = request.session.get("asked", 0) + 1
    return HttpResponse(status=200 + request.session["asked"])


@require_POST
def by_json(request):
    if request.content_type != "application/json":
        return HttpResponse(status=415)
    return HttpResponse(Tag.objects.create(name=json.loads(request.body)["name"]))


class NewBooking(LoginRequiredMixin, CreateView):
    model = Booking
    fields = ("email", "concert")
    success_url = "/"


class EditBooking(UpdateView):
    form_class = BookingForm
    queryset = Booking.objects.all()

    def form_valid(self, form):
        form.save()
        self.object.concert.tags.add(Tag.objects.first())
        return redirect("/")


class DropConcert(DeleteView):
    model = Concert
    success_url = "/"


class DropTag(DeleteView):
    model = Tag
    success_url = "/"

    def post(self, request, *args, **kwargs):
        Log.objects.create(text="dropped")
        return super().post(request, *args, **kwargs)


class About(TemplateView):
    template_name = "about.html"


class Move(View):
    def get(self, request, pk):
        return HttpResponse(Log.objects.create(text="seen"))

    def post(self, request, pk):
        self.booking = self.find(pk)
        self.move()
        return HttpResponse()

    def find(self, pk):
        return Booking.objects.select_for_update().get(pk=pk)

    def move(self):
        self.booking.concert = Concert.objects.last()
        self.booking.save()

    def delete(self, request, pk):
        Booking.objects.filter(pk=pk).delete()
        return HttpResponse()


class RenameTag(View):
    def post(self, request, pk):
        self.tag.name = request.POST["name"]
        self.tag.save()
        return HttpResponse()

    def dispatch(self, request, *args, **kwargs):
        """It runs before ``post``, and stands below it."""
        self.tag = Tag.objects.get(**kwargs)
        return super().dispatch(request, *args, **kwargs)


class Bookings(ModelViewSet):
    queryset = Booking.objects.all()

    def perform_create(self, serializer):
        Tag.objects.create(name="new")
        super().perform_create(serializer)

    def cancel(self, request, pk):
        self.get_object().cancel()
        return HttpResponse()
