"""A pyftpdlib server; settings are JSON in the environment variable FTPTEST."""
import json
import logging
import os

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.servers import MultiprocessFTPServer


def main():
    s = json.loads(os.environ["FTPTEST"])
    os.umask(0o022)
    base = TLS_FTPHandler if s["cert"] else FTPHandler

    class Handler(base):
        use_gmt_times = s["gmt"]
        permit_foreign_addresses = False
        max_login_attempts = 100
        timeout = s["idle"]
        passive_ports = range(s["passive"][0], s["passive"][1] + 1)
        masquerade_address = s["masquerade"] or None
        proto_cmds = {k: v for k, v in base.proto_cmds.items() if k not in (s["deny"] or ())}

        def add_channel(self, *args, **kwargs):
            super().add_channel(*args, **kwargs)
            if getattr(self, "_idler", None) is not None:
                # In the session's own process now, whose loop lacks the idle timer (it was made for
                # the parent's) and takes the timeout 0, "a timer is due", for "wait for ever".
                self._idler = self.ioloop.call_later(self.timeout, self.handle_timeout, _errback=self.handle_error)
                due = self.ioloop.sched.poll
                self.ioloop.sched.poll = lambda: None if (t := due()) is None else max(t, 0.001)

    class Server(MultiprocessFTPServer):
        def _accept_new_cons(self):  # the library lets one more in
            return not self.max_cons or self._map_len() < self.max_cons

    if s["cert"]:
        Handler.certfile = s["cert"]
        Handler.keyfile = s["key"]
        Handler.tls_control_required = True
        Handler.tls_data_required = True
        Handler.ssl_context = Handler.get_ssl_context()  # while the key can be read
    Handler.authorizer = DummyAuthorizer()
    Handler.authorizer.add_user(s["user"], s["password"], s["root"], perm=s["perm"])
    exec(s["extra"], {"Handler": Handler})
    logging.basicConfig(level=logging.DEBUG if s["verbose"] else logging.WARNING)
    # A process a session: they can be killed one by one, and don't wait for each other's disk.
    server = Server((s["host"], s["port"]), Handler)
    server.max_cons = s["max"]
    server.max_cons_per_ip = 0
    if s["uid"] >= 0:
        os.setgroups([])
        os.setgid(s["uid"])
        os.setuid(s["uid"])
    server.serve_forever()


main()
