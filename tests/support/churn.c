/* SPDX-License-Identifier: MIT */

/*
 * churn [OPTION...]: claims ports by short processes, and says exactly what it claimed.
 *
 *   --count N         claims (10,000), ten of each process
 *   --rate N          of them per second at most (5,000)
 *   --kinds A,B,...   default: all but udp-disconnect
 *   --parallel N      processes at a time (2)
 *   --uids A,B,...    of the processes, in turn (our own)
 *   --pid N           that each process has, one after the other (needs CAP_CHECKPOINT_RESTORE)
 *   --kill N          of 100 processes, so many die by SIGKILL with a claim open (0)
 *   --cookie WHEN     none, before, after the claim or mixed: when SO_COOKIE is asked for (none)
 *   --hold            every process opens its claims, "held" is printed, and all is closed at the end of standard input
 *   --exe DIR         where the second program goes that we execute (/tmp)
 *   --ports FROM      below the ports that are watched: listeners are made from here on (20000)
 *   --seed N          of what is chosen (1)
 *
 * By SIGUSR1 it begins no other process, and says what was claimed until then.
 *
 * Output, one JSON object a line: first the run, then each claim. A claim is in doubt ("certain": false) if its process died
 * in the very call; its port is null then. Loopback only, of the network namespace that we run in.
 */

#include "tests/support/churn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

#define COUNT_MAX 1000000

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "churn: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* A process that may not be there when its parent is not; with a pid that is free, or 0: any. */
static pid_t fork_bound(pid_t wanted)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
	pid_t parent = getpid(), pid;

	pid = wanted ? (pid_t)syscall(SYS_clone3, &args, sizeof(args)) : fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* The listeners. */

static int open_listener(int family, int protocol, uint16_t *port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol), r;

	for (; fd >= 0 && *port < 32768; (*port)++) {
		v4.sin_port = v6.sin6_port = htons(*port);
		r = family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
				      : bind(fd, (struct sockaddr *)&v6, sizeof(v6));
		if (r == 0 && listen(fd, 4096) == 0)
			return fd;
	}
	die("a listener");
}

/*
 * Takes and drops whatever comes, until it is killed. At once, where it may: the other end of a connection is gone when we
 * have closed ours, and as long as we wait for a processor it is an orphan.
 */
static _Noreturn void accept_all(struct pollfd *at, nfds_t count)
{
	static const struct sched_param first = {.sched_priority = 1};

	(void)sched_setscheduler(0, SCHED_FIFO, &first);
	for (;;) {
		if (poll(at, count, -1) < 0)
			_exit(1);
		for (nfds_t i = 0; i < count; i++)
			for (int fd; (fd = accept4(at[i].fd, NULL, NULL, SOCK_CLOEXEC)) >= 0;)
				close(fd);
	}
}

static pid_t start_listeners(struct churn *c, uint16_t from)
{
	struct pollfd at[2 * CHURN_LISTENERS + 1];
	nfds_t count = 0;
	pid_t pid;

	c->closed = from++; /* is not listened to: the port of `refused` */
	for (size_t i = 0; i < CHURN_LISTENERS; i++) {
		at[count++].fd = open_listener(AF_INET, IPPROTO_TCP, &from);
		c->tcp4[i] = from++;
		at[count++].fd = open_listener(AF_INET6, IPPROTO_TCP, &from);
		c->tcp6[i] = from++;
	}
	for (uint32_t i = 0; i < c->kind_count; i++)
		if (c->kinds[i] == CHURN_MPTCP && c->mptcp == 0) {
			at[count++].fd = open_listener(AF_INET, IPPROTO_MPTCP, &from);
			c->mptcp = from++;
		}
	for (nfds_t i = 0; i < count; i++)
		at[i].events = POLLIN;
	pid = fork_bound(0);
	if (pid == 0)
		accept_all(at, count);
	for (nfds_t i = 0; i < count; i++)
		close(at[i].fd);
	return pid;
}

/* The processes that claim. */

static void wait_for_release(const struct churn *c)
{
	char byte = 0;

	if (write(c->held_fd, &byte, 1) != 1 || read(c->release_fd, &byte, 1) < 0)
		_exit(1);
}

static void become(const struct churn *c, uint32_t process)
{
	uint32_t uid = c->uids[process % c->uid_count];

	/* root stays where the child that executes can find it again */
	if (getuid() == 0 && setresuid(uid, uid, 0) < 0)
		_exit(1);
}

static _Noreturn void claim_all(struct churn *c, uint32_t process)
{
	uint32_t first = process * CHURN_PER_PROCESS, last = first + CHURN_PER_PROCESS;
	bool victim = churn_random(c, process, 2) % 100 < c->kill;
	uint32_t dies_at = first + (uint32_t)(churn_random(c, process, 3) % CHURN_PER_PROCESS);
	int fd[CHURN_PER_PROCESS];
	char comm[16];

	snprintf(comm, sizeof(comm), "churn %u", process % COUNT_MAX);
	prctl(PR_SET_NAME, comm);
	become(c, process);
	for (uint32_t i = first; i < last && i < c->count; i++) {
		fd[i - first] = churn_open(c, i);
		if (victim && i == dies_at) {
			if (fd[i - first] >=
				0) { /* not one that another process has made, and ended */
				c->claim[i].close_before = churn_now();
				c->claim[i].killed = true;
			}
			kill(getpid(), SIGKILL);
		}
		/* a refused connect has given its port back already */
		if (!c->hold || c->claim[i].kind == CHURN_REFUSED) {
			churn_close(c, i, fd[i - first]);
			fd[i - first] = -1;
		}
	}
	if (c->hold) {
		wait_for_release(c);
		for (uint32_t i = first; i < last && i < c->count; i++)
			churn_close(c, i, fd[i - first]);
		while (wait(NULL) > 0) /* those that executed */
			;
	}
	_exit(0);
}

/* What a process that is gone has left open, the kernel has closed. */
static void close_after_death(struct churn *c, uint32_t process)
{
	uint64_t now = churn_now();

	for (uint32_t i = process * CHURN_PER_PROCESS;
		i < (process + 1) * CHURN_PER_PROCESS && i < c->count; i++)
		if (c->claim[i].state == CHURN_OPEN || c->claim[i].state == CHURN_CLOSING) {
			c->claim[i].close_after = now;
			c->claim[i].state = CHURN_CLOSED;
		}
}

/* One of those that start processes, each in turn, at the times that the rate gives. */
static _Noreturn void work(struct churn *c, uint32_t worker, uint64_t begin)
{
	uint64_t step = 1000000000ull * CHURN_PER_PROCESS / c->rate;

	for (uint32_t process = worker; process < c->processes; process += c->parallel) {
		pid_t pid;

		sleep_until(begin + process * step);
		if (c->enough)
			break;
		pid = fork_bound(c->pid);
		if (pid == 0)
			claim_all(c, process);
		if (c->hold)
			continue;
		if (waitpid(pid, NULL, 0) != pid)
			die("waitpid");
		close_after_death(c, process);
	}
	while (wait(NULL) > 0)
		;
	_exit(0);
}

static int run_claim(char **argv)
{
	int memory = atoi(argv[2]), fd;
	uint32_t number = (uint32_t)strtoul(argv[3], NULL, 10);
	struct churn *c;
	struct stat st;

	if (fstat(memory, &st) < 0)
		die("memory");
	c = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	if (c == MAP_FAILED)
		die("mmap");
	become(c, number / CHURN_PER_PROCESS);
	fd = churn_open(c, number);
	if (c->hold)
		wait_for_release(c);
	churn_close(c, number, fd);
	return 0;
}

/* What is written at the end. */

static void print_endpoint(const char *name, const struct sockaddr_storage *a)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;
	char text[INET6_ADDRSTRLEN];

	if (a->ss_family == AF_INET)
		printf(",\"%s_address\":\"%s\",\"%s_port\":%u", name,
			inet_ntop(AF_INET, &v4->sin_addr, text, sizeof(text)), name,
			ntohs(v4->sin_port));
	else if (a->ss_family == AF_INET6)
		printf(",\"%s_address\":\"%s\",\"%s_port\":%u", name,
			inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof(text)), name,
			ntohs(v6->sin6_port));
	else
		printf(",\"%s_address\":null,\"%s_port\":null", name, name);
}

static void print_claim(const struct churn *c, const struct churn_claim *claim)
{
	printf("{\"kind\":\"%s\",\"protocol\":\"%s\",\"role\":\"%s\",\"certain\":%s,\"killed\":%s,"
	       "\"pid\":%d,\"start_ticks\":%llu,\"uid\":%u,\"comm\":\"%s\",\"exe\":\"%s\","
	       "\"cookie\":\"%llu\",\"open_before\":%llu,\"open_after\":%llu,"
	       "\"close_before\":%llu,\"close_after\":%llu",
		churn_kind_name(claim->kind), churn_protocol_name(claim->kind),
		churn_role_name(claim->kind), claim->state == CHURN_CLOSED ? "true" : "false",
		claim->killed ? "true" : "false", claim->pid,
		(unsigned long long)claim->start_ticks, claim->uid, claim->comm,
		claim->other_exe ? c->other_exe : c->exe, (unsigned long long)claim->cookie,
		(unsigned long long)claim->open_before, (unsigned long long)claim->open_after,
		(unsigned long long)claim->close_before, (unsigned long long)claim->close_after);
	print_endpoint("local", &claim->local);
	print_endpoint("remote", &claim->remote);
	puts("}");
}

static int print_all(const struct churn *c, uint64_t begin)
{
	uint64_t boot, took = UINT64_MAX;
	uint32_t made = 0, doubtful = 0, failed = 0;
	struct timespec wall;
	struct stat netns;
	int error = 0;

	for (uint32_t i = 0; i < c->count; i++) {
		made += c->claim[i].state == CHURN_CLOSED;
		doubtful += c->claim[i].state == CHURN_OPENING;
		failed += c->claim[i].state == CHURN_FAILED;
		if (c->claim[i].error)
			error = c->claim[i].error;
	}
	/* of both clocks at one instant, also where the processor is taken away in between */
	for (int i = 0; i < 8 && took > 10000; i++) {
		boot = churn_now();
		clock_gettime(CLOCK_REALTIME, &wall);
		took = churn_now() - boot;
		boot += took / 2;
	}
	if (stat("/proc/self/ns/net", &netns) < 0)
		die("/proc/self/ns/net");
	printf("{\"count\":%u,\"made\":%u,\"doubtful\":%u,\"failed\":%u,\"error\":\"%s\","
	       "\"processes\":%u,\"begin_ns\":%llu,\"boot_ns\":%llu,\"wall_ns\":%llu,"
	       "\"tick_ns\":%llu,\"netns\":%llu}\n",
		c->count, made, doubtful, failed, error ? strerror(error) : "", c->processes,
		(unsigned long long)begin, (unsigned long long)boot,
		(unsigned long long)wall.tv_sec * 1000000000ull + (unsigned long long)wall.tv_nsec,
		1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK),
		(unsigned long long)netns.st_ino);
	for (uint32_t i = 0; i < c->count; i++)
		if (c->claim[i].state == CHURN_CLOSED || c->claim[i].state == CHURN_OPENING)
			print_claim(c, &c->claim[i]);
	return fflush(stdout) == EOF;
}

/* Set-up. */

static uint32_t number(const char *text, uint32_t low, uint32_t high)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end != '\0' || value < low || value > high) {
		fprintf(stderr, "churn: not a number from %u to %u: %s\n", low, high, text);
		exit(2);
	}
	return (uint32_t)value;
}

static uint32_t word(const char *text, const char *(*name)(enum churn_kind), uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		if (strcmp(text, name((enum churn_kind)i)) == 0)
			return i;
	fprintf(stderr, "churn: not known: %s\n", text);
	exit(2);
}

static const char *cookie_name(enum churn_kind when)
{
	static const char *const names[] = {"none", "before", "after", "mixed"};

	return names[when];
}

static void set_kinds(struct churn *c, char *text)
{
	char *save = NULL;

	c->kind_count = 0;
	for (char *w = strtok_r(text, ",", &save); w && c->kind_count < CHURN_KINDS;
		w = strtok_r(NULL, ",", &save))
		c->kinds[c->kind_count++] = word(w, churn_kind_name, CHURN_KINDS);
}

static void set_uids(struct churn *c, char *text)
{
	char *save = NULL;

	c->uid_count = 0;
	for (char *w = strtok_r(text, ",", &save); w && c->uid_count < CHURN_UIDS;
		w = strtok_r(NULL, ",", &save))
		c->uids[c->uid_count++] = number(w, 0, UINT32_MAX - 1);
}

struct places {
	const char *exe;
	uint16_t ports;
};

static void parse(int argc, char **argv, struct churn *c, struct places *p)
{
	static const struct option options[] = {{"count", 1, NULL, 'n'}, {"rate", 1, NULL, 'r'},
		{"kinds", 1, NULL, 'k'}, {"parallel", 1, NULL, 'p'}, {"uids", 1, NULL, 'u'},
		{"kill", 1, NULL, 'K'}, {"cookie", 1, NULL, 'c'}, {"hold", 0, NULL, 'h'},
		{"pid", 1, NULL, 'i'}, {"exe", 1, NULL, 'e'}, {"ports", 1, NULL, 'P'},
		{"seed", 1, NULL, 's'}, {0}};

	for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
		switch (o) {
		case 'n':
			c->count = number(optarg, 1, COUNT_MAX);
			break;
		case 'r':
			c->rate = number(optarg, 1, 100000);
			break;
		case 'k':
			set_kinds(c, optarg);
			break;
		case 'p':
			c->parallel = number(optarg, 1, 64);
			break;
		case 'u':
			set_uids(c, optarg);
			break;
		case 'K':
			c->kill = number(optarg, 0, 100);
			break;
		case 'c':
			c->cookie = (enum churn_cookie)word(optarg, cookie_name, 4);
			break;
		case 'i':
			c->pid = (int32_t)number(optarg, 2, 1 << 22);
			break;
		case 'h':
			c->hold = true;
			break;
		case 'e':
			p->exe = optarg;
			break;
		case 'P':
			p->ports = (uint16_t)number(optarg, 1024, 32000);
			break;
		case 's':
			c->seed = number(optarg, 0, UINT32_MAX);
			break;
		default:
			exit(2);
		}
	if ((c->hold && c->kill > 0) || (c->pid && (c->hold || c->parallel > 1))) {
		fprintf(stderr,
			"churn: not together: --hold and --kill, --pid and --hold, --pid and --parallel\n");
		exit(2);
	}
}

static struct churn *map_churn(const struct churn *from)
{
	size_t size = sizeof(*from) + from->count * sizeof(from->claim[0]);
	int fd = memfd_create("churn", 0);
	struct churn *c;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		die("memory");
	c = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (c == MAP_FAILED)
		die("mmap");
	memcpy(c, from, sizeof(*from));
	c->memory_fd = fd;
	c->processes = (c->count + CHURN_PER_PROCESS - 1) / CHURN_PER_PROCESS;
	/* each kind as often as the others, in an order that the seed gives */
	for (uint32_t i = 0; i < c->count; i++)
		c->claim[i].kind = (uint8_t)c->kinds[i % c->kind_count];
	for (uint32_t i = c->count; i-- > 1;) {
		uint32_t k = (uint32_t)(churn_random(c, i, 0) % (i + 1));
		uint8_t kind = c->claim[i].kind;

		c->claim[i].kind = c->claim[k].kind;
		c->claim[k].kind = kind;
	}
	return c;
}

/* A copy of us under another name. */
static void copy_exe(struct churn *c, const char *directory)
{
	char *real = realpath(directory, NULL), buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to;
	ssize_t n;

	if (!real || readlink("/proc/self/exe", c->exe, sizeof(c->exe) - 1) < 0)
		die(directory);
	snprintf(c->other_exe, sizeof(c->other_exe), "%.400s/other-%d", real, getpid());
	free(real);
	to = open(c->other_exe, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (from < 0 || to < 0)
		die(c->other_exe);
	while ((n = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)n) != n)
			die(c->other_exe);
	if (n < 0 || close(to) < 0)
		die(c->other_exe);
	close(from);
}

/* Waits until all is held, says so, and lets it go when our standard input ends. */
static void hold(const struct churn *c, int held, int release)
{
	uint32_t wanted = c->processes;
	char byte;

	for (uint32_t i = 0; i < c->count; i++)
		wanted += c->claim[i].kind == CHURN_EXEC;
	while (wanted > 0 && read(held, &byte, 1) == 1)
		wanted--;
	puts("held");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	close(release);
}

static struct churn *everything; /* for the handler */

static void end_early(int number)
{
	(void)number;
	everything->enough = true;
}

int main(int argc, char **argv)
{
	struct sigaction early = {.sa_handler = end_early, .sa_flags = SA_RESTART};
	struct churn options = {.count = 10000,
		.rate = 5000,
		.parallel = 2,
		.seed = 1,
		.kind_count = CHURN_UDP_DISCONNECT,
		.uids = {getuid()},
		.uid_count = 1};
	struct places places = {"/tmp", 20000};
	int held[2] = {-1, -1}, release[2] = {-1, -1}, r;
	struct churn *c;
	uint64_t begin;
	pid_t listeners;

	if (argc == 4 && strcmp(argv[1], "--claim") == 0)
		return run_claim(argv);
	for (uint32_t i = 0; i < CHURN_UDP_DISCONNECT; i++)
		options.kinds[i] = i;
	parse(argc, argv, &options, &places);
	everything = c = map_churn(&options);
	if (sigaction(SIGUSR1, &early, NULL) < 0)
		die("a signal");
	copy_exe(c, places.exe);
	listeners = start_listeners(c, places.ports);
	if (c->hold && (pipe(held) < 0 || pipe(release) < 0))
		die("pipe");
	c->held_fd = held[1];
	c->release_fd = release[0];
	begin = churn_now();
	for (uint32_t i = 0; i < c->parallel; i++)
		if (fork_bound(0) == 0) {
			close(release[1]);
			work(c, i, begin);
		}
	if (c->hold)
		hold(c, held[0], release[1]);
	for (uint32_t i = 0; i < c->parallel; i++)
		if (wait(NULL) == listeners)
			die("the listeners");
	unlink(c->other_exe);
	r = print_all(c, begin);
	kill(listeners, SIGKILL);
	waitpid(listeners, NULL, 0);
	return r;
}
