"""Which gradients make a round of training together: pure functions of state and event. Imports no other room.

``group`` says what an event does, ``quorum`` when a round commits and who may go on, ``staging`` what each ps keeps
until then. No clock, no sockets, no random numbers: the time comes with the events.
"""
