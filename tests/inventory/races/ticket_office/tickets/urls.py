from django.urls import path, re_path

from tickets import views

app_name = "tickets"
urlpatterns = [
    path("", views.index),
    path("concerts/<int:pk>/book", views.book, name="book"),
    path("bookings/<int:pk>/pay/", views.pay),
    path("bookings/<int:pk>/cancel/", views.cancel),
    path("bookings/<int:pk>/cancel-safely/", views.cancel_safely),
    path("form/", views.by_form),
    path("search/", views.search),
    re_path(r"^seats/(?P<pk>[0-9]+)/$", views.take_a_seat),
    path("two-seats/<slug:pk>/", views.take_two_seats),
    path("mystery/", views.mystery),
    path("without-sql/", views.without_sql),
    path("elsewhere/", views.elsewhere),
    path("crash/", views.crash),
    path("cached/<int:pk>/", views.cached),
    path("count/", views.count),
    path("tags-by-json/", views.by_json),
    path("new/", views.NewBooking.as_view()),
    path("edit/<int:pk>/", views.EditBooking.as_view()),
    re_path(r"^drop/(\d+)/(?P<word>[\w-]+)/$", views.DropConcert.as_view()),
    path("drop-tag/<int:pk>/", views.DropTag.as_view()),
    path("rename-tag/<int:pk>/", views.RenameTag.as_view()),
    path("about/", views.About.as_view()),
    path("move/<uuid:pk>/", views.Move.as_view()),
    path("api/", views.Bookings.as_view({"get": "list", "post": "create"})),
    path("api/<int:pk>/", views.Bookings.as_view({"put": "update"})),
    path("api/<int:pk>/cancel/", views.Bookings.as_view({"post": "cancel"})),
]
