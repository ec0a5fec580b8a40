"""The ground: values checked at the border, places, the machine, processes, the store.

It knows no network.
"""
