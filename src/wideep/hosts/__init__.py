"""The platform of hosts: services under systemd or supervisord, in environments or containers."""
