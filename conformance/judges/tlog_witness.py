"""The witness and the witness client of the package `witness-log`, for tests of this project's own.

    tlog_witness.py serve ORIGIN VKEY STATE     a witness server that knows one log
    tlog_witness.py submit                      a log that submits its checkpoints to witnesses

The package has the witness without a listener; `serve` puts Python's HTTP server in front of it. Each answers lines of
standard input with lines of standard output.
"""

import http.server
import json
import os
import sys
import threading

import witness_log


def answer(text):
    print(text, flush=True)


def serve(origin, vkey, state):
    witness_log.WitnessService.create_state(state)
    witness = witness_log.WitnessService.new("judge.example/witness", os.urandom(32), state)
    assert witness.add_log(origin, vkey)
    lock = threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                with lock:
                    status, media_type, text = witness.handle_add_checkpoint_http(body.decode())
            except (UnicodeDecodeError, witness_log.WitnessLogError) as error:
                status, media_type, text = 400, "text/plain", f"{error}\n"
            reply = text.encode()
            self.send_response(status if self.path == "/prefix/add-checkpoint" else 404)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer(f"http://127.0.0.1:{server.server_port}/prefix {witness.vkey()}")
    sys.stdin.read()


def submit():
    """Lines of input: the number of events to append, then the witnesses: NAME URL HEX_KEY ..."""
    log = witness_log.WitnessLog.generate()
    origin = log.canonical_origin()
    answer(f"{origin} {log.c2sp_vkey(origin)}")
    for line in sys.stdin:
        events, *words = line.split()
        for _ in range(int(events)):
            log.append_intent(os.urandom(16))
        entries = [words[at : at + 3] for at in range(0, len(words), 3)]
        directory = [
            json.loads(witness_log.witness_entry_independent(name, name, url, key)) for name, url, key in entries
        ]
        state = os.path.join(os.environ["STATE"], "witnesses.json")
        result = witness_log.submit_round(log, directory, state)
        outcomes = [{"name": outcome["witness"], "status": outcome["status"]} for outcome in result.outcomes]
        answer(json.dumps({"size": result.tree_size, "cosignatures": result.cosignatures, "outcomes": outcomes}))


if __name__ == "__main__":
    {"serve": serve, "submit": submit}[sys.argv[1]](*sys.argv[2:])
