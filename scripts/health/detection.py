"""From a fault to the first changed answer, end to end, against the formula of docs/health.md: origins that fail at moments of their own, the program
checking them with its default pace, a client that asks for each name every 20 ms from the fault on. Prints the table of docs/performance.md."""
import heapq, os, random, select, socket, subprocess, sys, time

from common import *

SAMPLES = int(sys.argv[1]) if len(sys.argv) > 1 else 100
INTERVAL, FAST, TIMEOUT, RISE = 10.0, 2.0, 3.0, 3
FAULTS = {"refused": 0.0, "status": 0.0, "silent": TIMEOUT}
PORT, EVERY, BURST = 18080, 0.02, 32
# Faults a second: few names are in doubt at a time, so that asking for them takes little.
RATE = 15.0
SPARE = "192.0.2.1"


def zone(cells):
    text = '[zone]\nname = "example.com"\nns = ["ns1"]\n[records]\nns1.A = "192.0.2.53"\n'
    text += f'[pool.spare]\nendpoints = ["{SPARE}"]\n'
    for fall in (1, 2, 3):
        text += f'[monitor.m{fall}]\nhttp = "/"\nhost = "app.example.com"\nport = {PORT}\nfall = {fall}\nexpect = {{ body = "ready" }}\n'
    for name, (address, fall, _) in cells.items():
        text += f'[pool.{name}]\nendpoints = ["{address}"]\nmonitor = "m{fall}"\n[steer.{name}]\npolicy = "failover"\nto = ["{name}", "spare"]\n'
    return text


def main():
    program, path = build(), folder()
    kinds = [(fall, fault) for fall in (1, 2, 3) for fault in FAULTS] * SAMPLES
    random.shuffle(kinds)
    cells = {f"n{at}": (f"127.20.{at // 250}.{at % 250 + 1}", *kind) for at, kind in enumerate(kinds)}
    # Much fails on purpose.
    open(f"{path}/meridian.toml", "w").write('[server]\nlisten = ["127.0.0.1:0"]\nthreads = 1\n[admin]\nlisten = "127.0.0.1:0"\n[health]\nfreeze = false\n')
    open(f"{path}/zones/example.com.toml", "w").write(zone(cells))
    here = os.path.dirname(os.path.abspath(__file__))
    origins = subprocess.Popen([sys.executable, f"{here}/origins.py", str(PORT), *(cell[0] for cell in cells.values())],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert origins.stdout.readline() == "ready\n"
    server = Meridian(program, path)

    def do(name, deed):
        origins.stdin.write(f"{cells[name][0]} {deed}\n")
        origins.stdin.flush()
        return float(origins.stdout.readline())

    # Every check has found its place in the interval.
    time.sleep(2.2 * INTERVAL)
    begin = time.monotonic()
    plan = [(begin + at / RATE, name, True) for at, name in enumerate(cells)]
    heapq.heapify(plan)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    client.connect(server.dns)
    numbers = {at: name for at, name in enumerate(cells)}
    packets = {name: question(f"{name}.example.com", 1, at) for at, name in numbers.items()}
    waiting, down, back = {}, {}, {}
    asked = answered = 0
    deadline = begin + len(cells) / RATE + 90
    while (plan or waiting) and time.monotonic() < deadline:
        while plan and plan[0][0] <= time.monotonic():
            _, name, is_fault = heapq.heappop(plan)
            waiting[name] = (do(name, cells[name][2] if is_fault else "healthy"), is_fault)
        round_ends, names = time.monotonic() + EVERY, list(waiting)
        # A few at a time: a burst would overflow what the sockets hold, and be lost for that.
        for first in range(0, len(names), BURST):
            for name in names[first:first + BURST]:
                client.send(packets[name])
                asked += 1
            last = first + BURST >= len(names)
            while select.select([client], [], [], max(0.0, round_ends - time.monotonic()) if last else 0.001)[0]:
                number, code, found = answer(client.recv(4096))
                answered += 1
                name = numbers[number]
                if name in waiting and code == 0 and (cells[name][0] in found) != waiting[name][1]:
                    since, is_fault = waiting.pop(name)
                    (down if is_fault else back)[name] = time.monotonic() - since
                    if is_fault:
                        heapq.heappush(plan, (time.monotonic() + random.uniform(0.5, INTERVAL), name, False))
        time.sleep(max(0.0, round_ends - time.monotonic()))
    # What was sent last is still to come.
    while select.select([client], [], [], 1)[0]:
        client.recv(4096)
        answered += 1
    server.stop()
    origins.stdin.close()
    print(f"{asked} questions, {asked - answered} unanswered; {len(waiting)} endpoints did not change in time\n")
    print("| `fall` | fault | formula, mean / worst | p50 | mean | p99 | worst | samples |\n|---|---|---|---|---|---|---|---|")
    for fall in (1, 2, 3):
        for fault, took in FAULTS.items():
            seen = [time for name, time in down.items() if cells[name][1:] == (fall, fault)]
            rest = took + (fall - 1) * max(FAST, took)
            row(f"{fall} | {fault}", INTERVAL / 2 + rest, INTERVAL + rest, seen)
    row("any | back, `rise` 3", INTERVAL / 2 + (RISE - 1) * INTERVAL, RISE * INTERVAL, list(back.values()))
    sys.exit(1 if waiting or asked > answered else 0)


def row(words, mean, worst, seen):
    figures = f"{share(seen, .5):.1f} | {sum(seen) / len(seen):.1f} | {share(seen, .99):.1f} | {max(seen):.1f}" if seen else "– | – | – | –"
    print(f"| {words} | {mean:.1f} / {worst:.1f} s | {figures} | {len(seen)} |")


main()
