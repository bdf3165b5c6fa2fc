"""An hour (or so many minutes) of random faults, overlays and reloads, with an injector that keeps its own log, and a client that never stops asking.

A finding is: a fault of the log that did not come to `down` in the time that docs/health.md says, or to a way back after it; a fall without a fault;
a fall when all fail at once with the references; a question without an answer, or with another code than NOERROR; an answer that names what had fallen;
an overlay or reload that was refused; memory or descriptors that grow. Exit code 1 if there is any. Usage: soak.py MINUTES [SEED]
"""
import os, random, select, socket, subprocess, sys, threading, time

from common import *

MINUTES = float(sys.argv[1]) if len(sys.argv) > 1 else 60
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
ENDPOINTS, PORT, SPARE = 40, 18090, "192.0.2.1"
REFERENCES = ["127.31.0.1", "127.31.0.2"]
INTERVAL, FAST, TIMEOUT, FALL, RISE, JITTER = 3.0, 1.0, 1.5, 3, 2, 0.1
# What a reference adds: nothing falls before one of them has answered since the check began to fail. They are asked every 3 s.
REFERENCE = 3.3
# For machines that do other things as well.
SLACK = 3.0
# An endpoint falls again after so long: what damping charges for two falls never adds up to what keeps it down.
APART = 400.0
FAULTS = {"refused": 0.0, "status": 0.0, "body": 0.0, "reset": 0.0, "silent": TIMEOUT}
# Memory may grow by so much an hour, seen over the last three quarters.
MAX_SLOPE = 2.0 * (1 << 20)


def worst(fault):
    took = FAULTS[fault]
    return (INTERVAL + took + (FALL - 1) * max(FAST, took)) * (1 + JITTER) + REFERENCE + SLACK


BACK = RISE * INTERVAL * (1 + JITTER) + TIMEOUT + SLACK


def pool_of(at):
    return at // 2


def address(at):
    return f"127.30.0.{at + 1}"


def zone(ttl, extra):
    text = f'[zone]\nname = "example.com"\nttl = {ttl}\nns = ["ns1"]\n[records]\nns1.A = "192.0.2.53"\n'
    text += f'[monitor.web]\nhttp = "/"\nhost = "app.example.com"\nport = {PORT}\nexpect = {{ body = "ready" }}\n'
    text += f'interval = "{INTERVAL:g}s"\nfast = "{FAST:g}s"\ntimeout = "{int(TIMEOUT * 1000)}ms"\nfall = {FALL}\nrise = {RISE}\nslow = false\n'
    text += f'[pool.spare]\nendpoints = ["{SPARE}"]\n'
    for pool in range(ENDPOINTS // 2):
        text += f'[pool.p{pool}]\nendpoints = ["{address(2 * pool)}", "{address(2 * pool + 1)}"]\nmonitor = "web"\n'
        text += f'[steer.n{pool}]\npolicy = "failover"\nto = ["p{pool}", "spare"]\n'
    # Names and pools come and go with reloads.
    for at in range(extra):
        text += f'[pool.x{at}]\nendpoints = ["192.0.2.{at + 10}"]\n[steer.x{at}]\npolicy = "failover"\nto = ["x{at}", "spare"]\n'
    return text


class Client(threading.Thread):
    """Asks for each name in turn, some two hundred times a second."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(server)
        self.asked, self.unanswered, self.wrong, self.going = 0, 0, [], True
        # Addresses that may not be handed out, since when.
        self.fallen = {}

    def run(self):
        number = 0
        while self.going:
            number = (number + 1) % 65536
            self.asked += 1
            name = f"n{number % (ENDPOINTS // 2)}.example.com"
            since = time.monotonic()
            self.socket.send(question(name, 1, number))
            while True:
                if not select.select([self.socket], [], [], 5)[0]:
                    self.unanswered += 1
                    break
                seen, code, found = answer(self.socket.recv(4096))
                if seen != number:
                    continue
                bad = [address for address in found if self.fallen.get(address, since) < since - 1]
                if code != 0 or not found or bad:
                    self.wrong.append((name, code, found, bad))
                break
            time.sleep(0.005)


class Soak:
    def __init__(self):
        self.chance = random.Random(SEED)
        self.findings, self.log, self.memory = [], [], []
        # By endpoint: fault, begin, end; and when it fell last.
        self.open, self.fell = {}, {}
        self.stood = []
        self.begin = time.monotonic()

    def find(self, words):
        print(f"{time.monotonic() - self.begin:7.1f} s FINDING {words}", flush=True)
        self.findings.append(words)

    def start(self):
        program, self.path = build(), folder()
        references = ", ".join(f'"{address}:{PORT}"' for address in REFERENCES)
        open(f"{self.path}/meridian.toml", "w").write(
            f'[server]\nlisten = ["127.0.0.1:0"]\nthreads = 1\n[admin]\nlisten = "127.0.0.1:0"\n[health]\nreferences = [{references}]\n')
        self.edit()
        here = os.path.dirname(os.path.abspath(__file__))
        self.origins = subprocess.Popen([sys.executable, f"{here}/origins.py", str(PORT), *map(address, range(ENDPOINTS)), *REFERENCES],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.origins.stdout.readline() == "ready\n"
        threading.Thread(target=self.note_stalls, daemon=True).start()
        self.server = Meridian(program, self.path)
        self.client = Client(self.server.dns)
        self.client.start()

    def note_stalls(self):
        for line in self.origins.stderr:
            words = line.split()
            if words[0] == "stood":
                self.stood.append((float(words[1]), float(words[1]) + float(words[2])))
            else:
                print(line, end="", flush=True)

    def was_stalled(self, begin, end):
        """The origins themselves stood still for so long that checks may have failed for it."""
        return any(stall[1] - stall[0] > TIMEOUT / 2 and stall[0] < end and stall[1] > begin for stall in self.stood)

    def do(self, at, deed):
        place = at if isinstance(at, str) else address(at)
        self.origins.stdin.write(f"{place} {deed}\n")
        self.origins.stdin.flush()
        return float(self.origins.stdout.readline())

    def edit(self):
        text = zone(self.chance.choice([60, 300, 600]), self.chance.randrange(12))
        new = f"{self.path}/new"
        open(new, "w").write(text)
        os.rename(new, f"{self.path}/zones/example.com.toml")

    # What happens.

    def fail_one(self):
        now = time.monotonic()
        free = [at for at in range(ENDPOINTS) if at not in self.open and now - self.fell.get(at, -APART) >= APART]
        if not free or len(self.open) >= ENDPOINTS // 4:
            return
        at, fault = self.chance.choice(free), self.chance.choice(list(FAULTS))
        is_short = self.chance.random() < 0.25
        # A short one is over before a second check can meet it: it may make suspect, no more.
        length = self.chance.uniform(0.1, FAST * (1 - JITTER) - 0.3) if is_short else worst(fault) + self.chance.uniform(0, 20)
        begin = self.do(at, fault)
        self.open[at] = {"at": at, "fault": fault, "begin": begin, "until": begin + length, "short": is_short, "end": None}
        self.log.append(self.open[at])
        self.fell[at] = now

    def heal_due(self):
        for at, fault in list(self.open.items()):
            if fault["until"] <= time.monotonic():
                # From this moment on it may be handed out.
                self.client.fallen.pop(address(at), None)
                fault["end"] = self.do(at, "healthy")
                del self.open[at]
                self.healed = time.monotonic()

    def fail_all(self):
        """As if our own network were gone: nothing may fall meanwhile."""
        if self.open:
            return
        begin = min(self.do(place, "refused") for place in REFERENCES)
        for at in range(ENDPOINTS):
            self.do(at, "refused")
        time.sleep(self.chance.uniform(2, 15))
        for at in range(ENDPOINTS):
            self.do(at, "healthy")
        # Whoever saw an endpoint fail has to see a reference fail for longer.
        time.sleep(TIMEOUT + 1)
        end = max(self.do(place, "healthy") for place in REFERENCES)
        self.log.append({"all": True, "begin": begin, "end": end})
        return end

    def lay(self):
        server = self.server
        target, change = self.chance.choice([
            (f"example.com/p{self.chance.randrange(ENDPOINTS // 2)}/", {"weight": self.chance.randrange(1, 100)}),
            (f"example.com/p{self.chance.randrange(ENDPOINTS // 2)}/", {"state": self.chance.choice(["down", "drain"])}),
            (f"example.com/n{self.chance.randrange(ENDPOINTS // 2)}", {"ttl": self.chance.randrange(10, 30)}),
        ])
        if target.endswith("/"):
            pool = int(target.split("/p")[1][:-1])
            target += address(2 * pool + self.chance.randrange(2))
        body = {"target": target, "set": change, "reason": "soak", "expires": f"{self.chance.randrange(20, 90)}s", "break_glass": True}
        status, laid = server.call("POST", "/v1/overlays", body)
        if status != 201:
            self.find(f"overlay refused: {status} {laid}")
        elif self.chance.random() < 0.7:
            status, reply = server.call("DELETE", f"/v1/overlays/{laid['id']}")
            if status != 200:
                self.find(f"revert refused: {status} {reply}")

    def reload(self):
        if self.chance.random() < 0.7:
            self.edit()
        if self.chance.random() < 0.3:
            self.server.process.send_signal(1)
        else:
            status, reply = self.server.call("POST", "/v1/reload", {})
            if status != 200:
                self.find(f"reload refused: {status} {reply}")

    # What came of it.

    def watch(self):
        """Takes what is new in the audit log: transitions with the moment at which they were heard of."""
        while self.watching:
            try:
                for entry in self.server.audit(self.seen):
                    self.seen = entry["sequence"]
                    if entry["kind"] == "health" and entry["action"] == "health":
                        place = entry["check"].rsplit(" at ", 1)[1].split(":")[0]
                        now = time.monotonic()
                        self.transitions.append((now, place, entry["before"], entry["after"], entry.get("detail", "")))
                        if entry["after"] == "down":
                            self.client.fallen[place] = now
                        else:
                            self.client.fallen.pop(place, None)
                    elif entry["kind"] == "health":
                        self.turns.append((time.monotonic(), entry["action"]))
            except (OSError, RuntimeError) as error:
                self.find(f"audit log: {error}")
            time.sleep(0.2)

    def measure(self):
        since = time.monotonic() - self.begin
        self.memory.append((since, self.server.own(), self.server.files()))

    def judge(self):
        falls = [(when, place) for when, place, _, after, _ in self.transitions if after == "down"]
        backs = [(when, place) for when, place, before, after, _ in self.transitions if before == "down" and after in ("ramp", "up")]
        excused = missed = 0
        explained = set()
        for fault in self.log:
            begin, end = fault["begin"], fault["end"] or time.monotonic()
            if fault.get("all"):
                for fall in falls:
                    if begin <= fall[0] <= end + BACK:
                        explained.add(fall)
                        self.find(f"{fall[1]} fell while everything failed, references too")
                if end - begin > 12 and not any(begin <= when <= end + SLACK and turn == "health.freeze" for when, turn in self.turns):
                    self.find("everything failed, references too, and nothing froze")
                continue
            place = address(fault["at"])
            mine = [fall for fall in falls if fall[1] == place and begin <= fall[0] <= end + TIMEOUT + SLACK]
            explained.update(mine)
            if fault["short"]:
                if mine and not self.was_stalled(begin, end + BACK):
                    self.find(f"{place} fell for a {fault['fault']} of {end - begin:.1f} s")
                continue
            if not mine or mine[0][0] > begin + worst(fault["fault"]):
                if self.was_stalled(begin - TIMEOUT, begin + worst(fault["fault"])):
                    excused += 1
                else:
                    missed += 1
                    self.find(f"{place} was {fault['fault']} and down after {mine and mine[0][0] - begin} s, at most {worst(fault['fault']):.1f} s were expected")
            if fault["end"] and mine and time.monotonic() > end + BACK:
                returned = [when for when, where in backs if where == place and when >= end]
                if not returned or returned[0] > end + BACK:
                    if self.was_stalled(end - TIMEOUT, end + BACK):
                        excused += 1
                    else:
                        missed += 1
                        self.find(f"{place} was well again and back after {returned and returned[0] - end} s, at most {BACK:.1f} s were expected")
        for when, place in falls:
            if (when, place) not in explained:
                if self.was_stalled(when - worst("silent"), when):
                    excused += 1
                else:
                    self.find(f"{place} fell without a fault")
        for name, code, found, bad in self.client.wrong[:20]:
            self.find(f"{name}: code {code}, {found}" + (f", though {bad} had fallen" if bad else ""))
        if self.client.unanswered:
            self.find(f"{self.client.unanswered} questions unanswered")
        return excused, missed

    def slope(self):
        """Octets an hour, by least squares over the last three quarters; what the first quarter takes is a beginning, not a leak."""
        points = [(when, octets) for when, octets, _ in self.memory[len(self.memory) // 4:]]
        mean = [sum(column) / len(points) for column in zip(*points)]
        width = sum((when - mean[0]) ** 2 for when, _ in points)
        return sum((when - mean[0]) * (octets - mean[1]) for when, octets in points) / width * 3600 if width else 0.0

    def run(self):
        print(f"{MINUTES:g} minutes, seed {SEED}", flush=True)
        self.start()
        self.seen, self.transitions, self.turns, self.watching = 0, [], [], True
        time.sleep(2 * INTERVAL)
        watcher = threading.Thread(target=self.watch, daemon=True)
        watcher.start()
        end = self.begin + MINUTES * 60
        next_all = time.monotonic() + self.chance.uniform(60, 120)
        next_look = 0.0
        calm_until = self.healed = 0.0
        said = time.monotonic()
        while time.monotonic() < end - 45:
            now = time.monotonic()
            self.heal_due()
            # Whoever was healed last is back: its way back would be disturbed.
            if now >= next_all - 40 and not self.open and now >= self.healed + BACK:
                self.fail_all()
                next_all, calm_until = time.monotonic() + self.chance.uniform(240, 480), time.monotonic() + BACK
            # Before all is to fail, single faults come to their end.
            elif now < next_all - 40 and now >= calm_until and self.chance.random() < 0.1:
                self.fail_one()
            if self.chance.random() < 0.05:
                self.lay()
            if self.chance.random() < 0.01:
                self.reload()
            if now >= next_look:
                self.measure()
                next_look = now + 10
            if now - said >= 300:
                said = now
                print(f"{now - self.begin:7.1f} s: {len(self.log)} faults, {len(self.transitions)} transitions, {self.client.asked} questions, "
                      f"{self.memory[-1][1] / (1 << 20):.1f} MiB, {self.memory[-1][2]} files, {len(self.findings)} findings", flush=True)
            if self.server.process.poll() is not None:
                self.find("the program has ended: " + "".join(self.server.log[-20:]))
                break
            time.sleep(0.2)
        while self.open:
            self.heal_due()
            time.sleep(0.1)
        time.sleep(BACK + 2)
        self.measure()
        self.client.going = False
        self.client.join(6)
        self.watching = False
        watcher.join(5)
        overlays = self.server.get("/v1/overlays")["overlays"]
        for overlay in overlays:
            if overlay["expires"] != "never" and overlay["expires"] < time.time() - 10:
                self.find(f"an overlay outlived itself: {overlay}")
        excused, missed = self.judge()
        slope, files = self.slope(), [files for _, _, files in self.memory]
        self.server.stop()
        self.origins.stdin.close()
        if MINUTES >= 20 and slope > MAX_SLOPE:
            self.find(f"memory of its own grows by {slope / (1 << 20):.1f} MiB an hour")
        if max(files[-3:]) > max(files[:len(files) // 4 + 3]) + 16:
            self.find(f"descriptors: {files[:5]} at first, {files[-5:]} at last")
        single = [fault for fault in self.log if not fault.get("all")]
        falls = sum(after == "down" for _, _, _, after, _ in self.transitions)
        print(f"faults of one endpoint: {len(single)}, of them {sum(fault['short'] for fault in single)} too short to count; of everything: {len(self.log) - len(single)}")
        print(f"transitions: {len(self.transitions)}, of them falls: {falls}; missed: {missed}; not judged, because the origins themselves stood still: {excused}")
        print(f"freezes and thaws: {len(self.turns)}; overlays left: {len(overlays)}")
        print(f"questions: {self.client.asked}, unanswered: {self.client.unanswered}, wrong: {len(self.client.wrong)}")
        print(f"memory of its own: {self.memory[0][1] / (1 << 20):.1f} MiB at first, {self.memory[-1][1] / (1 << 20):.1f} at last, "
              f"{slope / (1 << 20):+.2f} MiB an hour; descriptors: {files[0]} to {max(files)}, {files[-1]} at last")
        print(f"findings: {len(self.findings)}")
        sys.exit(1 if self.findings else 0)


Soak().run()
