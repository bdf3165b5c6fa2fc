"""Checks of many real endpoints: what they cost, and how late they begin. An nginx that answers at every address of 127.0.0.0/8, in a network namespace of
its own; the program on core 0, nginx on core 1. Usage: scale.py SECONDS KIND:COUNT[:dead]…, for example tcp:10000 https:20000 tcp:10000:dead (a third
of the endpoints is a black hole then)."""
import atexit, os, re, resource, subprocess, sys, time

from common import *

HTTP, HTTPS = 18100, 18143
INTERVAL = 10
NGINX = """
daemon off; master_process off; pid pid; user root; worker_rlimit_nofile 16384;
events { worker_connections 8192; }
http {
  access_log off; keepalive_timeout 0;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 0.0.0.0:%d backlog=4096; listen 0.0.0.0:%d ssl backlog=4096;
    ssl_certificate tls/dns.crt; ssl_certificate_key tls/dns.key;
    location / { return 200 "ready"; }
  }
}
"""


def zone(kind, count, is_dead, path):
    monitor = {
        "none": "",
        "tcp": f"tcp = true\nport = {HTTP}",
        "http": f'http = "/"\nhost = "dns.example.net"\nport = {HTTP}\nexpect = {{ body = "ready" }}',
        "https": f'https = "/"\nhost = "dns.example.net"\nport = {HTTPS}\nca = "{path}/nginx/tls/ca.crt"\nexpect = {{ body = "ready" }}',
    }[kind]
    text = '[zone]\nname = "example.com"\nns = ["ns1"]\n[records]\nns1.A = "192.0.2.53"\n'
    text += f'[monitor.m]\n{monitor}\ninterval = "{INTERVAL}s"\n' if monitor else ""
    for pool in range(count // 100):
        # What is dead begins with 127.200; every third pool.
        first = 200 if is_dead and pool % 3 == 0 else 100
        endpoints = ", ".join(f'"127.{first + pool // 200}.{pool % 200}.{at + 1}"' for at in range(100))
        text += f'[pool.p{pool}]\nendpoints = [{endpoints}]\n' + ('monitor = "m"\n' if monitor else "") + f'[steer.n{pool}]\nuse = "p{pool}"\n'
    return text


def counts(server):
    """Checks by whether they passed, and the histogram of how late they began."""
    page = server.get("/metrics")
    passed = failed = 0
    late = {}
    for line in page.splitlines():
        if line.startswith("meridian_check_duration_seconds_count"):
            if 'outcome="passed"' in line:
                passed += float(line.split()[-1])
            else:
                failed += float(line.split()[-1])
        elif line.startswith("meridian_check_lateness_seconds_bucket"):
            late[re.search('le="([^"]+)"', line)[1]] = float(line.split()[-1])
    return passed, failed, late


def at_most(before, after, part):
    """The bound that holds for this part of the checks in between."""
    total = after.get("+Inf", 0) - before.get("+Inf", 0)
    for bound in after:
        if after[bound] - before[bound] >= part * total:
            return f"≤ {float(bound) * 1000:g} ms" if bound != "+Inf" else "> 10 s"
    return "–"


def start(program, path, kind, count, is_dead):
    shutil.rmtree(f"{path}/state", ignore_errors=True)
    open(f"{path}/meridian.toml", "w").write(
        '[server]\nlisten = ["127.0.0.1:0"]\nthreads = 1\n[admin]\nlisten = "127.0.0.1:0"\n[health]\nfreeze = false\n')
    open(f"{path}/zones/example.com.toml", "w").write(zone(kind, count, is_dead, path))
    return Meridian(program, path, ["taskset", "-c", "0"], open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def main():
    seconds, program, path = int(sys.argv[1]), build(), folder()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.mkdir(f"{path}/nginx")
    certificate(f"{path}/nginx/tls")
    open(f"{path}/nginx/nginx.conf", "w").write(NGINX % (HTTP, HTTPS))
    where = ["-p", f"{path}/nginx", "-e", f"{path}/nginx/error.log", "-c", f"{path}/nginx/nginx.conf"]
    nginx = subprocess.Popen(["taskset", "-c", "1", "nginx", *where])
    atexit.register(nginx.kill)
    for rule in ("add table ip dead", "add chain ip dead in { type filter hook input priority 0; }", "add rule ip dead in ip daddr 127.200.0.0/13 drop"):
        subprocess.run(["nft", rule], check=True)
    print(f"open files: {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}; load average {os.getloadavg()[0]:.1f}\n")
    print("| endpoints | first round | checks/s | failed | processor | per check | nginx | memory | per endpoint | descriptors | late p50 | late p99 | load |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    idle = {}
    for word in sys.argv[2:]:
        kind, count, *dead = word.split(":")
        count = int(count)
        if count not in idle:
            server = start(program, path, "none", count, False)
            time.sleep(3)
            idle[count] = server.resident()
            server.stop()
        server = start(program, path, kind, count, bool(dead))
        began = time.monotonic()
        while sum(counts(server)[:2]) < count and time.monotonic() - began < 120:
            time.sleep(0.5)
        first = time.monotonic() - began
        # Phases spread over the interval, and what failed is known to be dead.
        time.sleep(3 * INTERVAL)
        passed, failed, late = counts(server)
        files, since, had, nginx_had = 0, time.monotonic(), server.processor(), processor(nginx.pid)
        while time.monotonic() - since < seconds:
            time.sleep(0.25)
            files = max(files, server.files())
        took, had, nginx_had = time.monotonic() - since, server.processor() - had, processor(nginx.pid) - nginx_had
        resident = server.resident()
        now_passed, now_failed, now_late = counts(server)
        # Both were counted a moment before and after.
        done = now_passed - passed + now_failed - failed
        print(f"| {count:,} {kind}{', a third dead' if dead else ''} | {first:.1f} s | {done / took:,.0f} | {now_failed - failed:,.0f} | {100 * had / took:.0f} % | "
              f"{1e6 * had / max(done, 1):.0f} µs | {100 * nginx_had / took:.0f} % | {resident / 2**20:.0f} MiB | {(resident - idle[count]) / count / 1024:.1f} KiB | "
              f"{files} | {at_most(late, now_late, .5)} | {at_most(late, now_late, .99)} | {os.getloadavg()[0]:.1f} |", flush=True)
        for line in server.log:
            if "late" in line:
                print(line.rstrip(), file=sys.stderr)
        server.stop()


main()
