/* SPDX-License-Identifier: MIT */

/*
 * portledgerd: options, configuration, and who is started when. First the ledger, which takes the lock and opens the
 * database; when it is ready, the control socket is bound (unless systemd passed one) and control started; from then on
 * this process is capture (or replay) and supervisor. When control was heard, systemd is told that we are ready.
 */

#include <event2/event.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include "common/journal.h"
#include "common/log.h"
#include "common/standard.h"
#include "config/config.h"
#include "daemon/capture/capture.h"
#include "daemon/capture/replay.h"
#include "daemon/forget.h"
#include "daemon/listen.h"
#include "daemon/options.h"
#include "daemon/privilege.h"
#include "daemon/service.h"
#include "daemon/state.h"
#include "daemon/supervise.h"

#define DEFAULT_CONFIG "/etc/portledger/portledger.conf"
#define DEFAULT_STATE  "/var/lib/portledger"
#define DEFAULT_SOCKET "/run/portledger/control"
#define EXIT_USAGE     2
#define EXIT_FELL      69 /* sysexits.h EX_UNAVAILABLE */
#define EXIT_CONFIG    78 /* sysexits.h EX_CONFIG */
#define KEPT_MAX       64 /* FileDescriptorStoreMax= of the unit */
#define STOP_USEC      (30 * USEC_PER_SEC)
#define MIGRATION_USEC (10 * USEC_PER_MINUTE)
#define ATTACH_USEC    USEC_PER_MINUTE /* events that are taken away are attached again no sooner */
/* What is larger gets pages of its own, which go with it: the arrays of one busy sweep leave no holes that the next, busier one
 * does not fit into. (glibc's own threshold rises to the largest that was ever freed.) */
#define OWN_PAGES_BYTES (64 * 1024)

struct options {
	const char *config, *state, *socket, *record, *replay;
	enum capture_rung rung;
	bool netns_self;
	uint32_t ring_bytes; /* 0: the default */
	bool check_config, debug;
	struct forget_words forget;
};

struct daemon {
	struct options options;
	struct config config;
	struct event_base *base;
	struct event *signals;
	struct event *reloads; /* pending: another one was asked for within the second */
	usec_t reload_next;    /* monotonic; not before */
	struct supervisor *supervisor;
	struct service *service;
	struct capture *capture; /* or ... */
	struct replay *replay;
	int proc_fd, state_fd, record_fd, replay_fd, listen_fd, signal_fd;
	struct passed handed; /* what systemd handed over, and nobody has taken */
	gid_t socket_group;   /* of the socket that we bind */
	struct stat socket;   /* its file */
	bool passed;          /* listen_fd is systemd's, and so is its file */
	bool ready;           /* systemd was told */
	char *refused;        /* why the last reload was refused; NULL: it was not */
	int status;
};

static const char HELP[] =
	"portledgerd [OPTIONS]\n"
	"Records which process claimed which dynamic-range port, from when to when.\n\n"
	"  --config FILE     configuration (default " DEFAULT_CONFIG ")\n"
	"  --state DIR       database and lock (default " DEFAULT_STATE ")\n"
	"  --socket PATH     control socket (default " DEFAULT_SOCKET ")\n"
	"  --rung RUNG       only this source: events, destroy or sweep (default: the best that works)\n"
	"  --netns all|self  network namespaces to watch (default: all; without events only its own)\n"
	"  --ring-bytes N    room for events that the database has not yet (default: 4 MiB)\n"
	"  --record FILE     also write the sighting stream to FILE\n"
	"  --replay FILE     read the sighting stream from FILE instead of watching\n"
	"  --forget uid:USER erase what is known of a user, and end; no daemon may run\n"
	"  --forget-since TIME, --forget-until TIME\n"
	"                    erase what is known of that time (of that user), and end\n"
	"  --check-config    read the configuration, say what is wrong with it, and end\n"
	"  --debug           say more\n"
	"  --version         print the version and end\n"
	"  --help            print this and end\n\n"
	"It stays in the foreground. See portledgerd(8).\n";

enum option_code {
	OPTION_CONFIG = 256,
	OPTION_STATE,
	OPTION_SOCKET,
	OPTION_RUNG,
	OPTION_NETNS,
	OPTION_RING_BYTES,
	OPTION_RECORD,
	OPTION_REPLAY,
	OPTION_FORGET,
	OPTION_FORGET_SINCE,
	OPTION_FORGET_UNTIL,
	OPTION_CHECK_CONFIG,
	OPTION_DEBUG,
	OPTION_VERSION,
	OPTION_HELP,
};

static const struct option OPTIONS[] = {
	{"config", required_argument, NULL, OPTION_CONFIG},
	{"state", required_argument, NULL, OPTION_STATE},
	{"socket", required_argument, NULL, OPTION_SOCKET},
	{"rung", required_argument, NULL, OPTION_RUNG},
	{"netns", required_argument, NULL, OPTION_NETNS},
	{"ring-bytes", required_argument, NULL, OPTION_RING_BYTES},
	{"record", required_argument, NULL, OPTION_RECORD},
	{"replay", required_argument, NULL, OPTION_REPLAY},
	{"forget", required_argument, NULL, OPTION_FORGET},
	{"forget-since", required_argument, NULL, OPTION_FORGET_SINCE},
	{"forget-until", required_argument, NULL, OPTION_FORGET_UNTIL},
	{"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
	{"debug", no_argument, NULL, OPTION_DEBUG},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, OPTION_HELP},
	{0},
};

/* Returns -1 to go on, else the exit status. */
static int parse_option(struct options *o, int code)
{
	switch (code) {
	case OPTION_CONFIG:
		o->config = optarg;
		return -1;
	case OPTION_STATE:
		o->state = optarg;
		return -1;
	case OPTION_SOCKET:
		o->socket = optarg;
		return -1;
	case OPTION_RECORD:
		o->record = optarg;
		return -1;
	case OPTION_REPLAY:
		o->replay = optarg;
		return -1;
	case OPTION_FORGET:
		o->forget.user = optarg;
		return -1;
	case OPTION_FORGET_SINCE:
		o->forget.since = optarg;
		return -1;
	case OPTION_FORGET_UNTIL:
		o->forget.until = optarg;
		return -1;
	case OPTION_CHECK_CONFIG:
		o->check_config = true;
		return -1;
	case OPTION_DEBUG:
		log_open("portledgerd", LOG_LEVEL_DEBUG);
		return -1;
	case OPTION_RUNG:
		return option_rung(optarg, &o->rung) ? -1 : EXIT_USAGE;
	case OPTION_NETNS:
		return option_netns(optarg, &o->netns_self) ? -1 : EXIT_USAGE;
	case OPTION_RING_BYTES:
		return option_ring_bytes(optarg, &o->ring_bytes) ? -1 : EXIT_USAGE;
	case OPTION_VERSION:
		puts("portledgerd " PORTLEDGER_VERSION);
		return EXIT_SUCCESS;
	case OPTION_HELP:
		fputs(HELP, stdout);
		return EXIT_SUCCESS;
	default:
		return EXIT_USAGE;
	}
}

static int parse_options(struct options *o, int argc, char **argv)
{
	int code;

	while ((code = getopt_long(argc, argv, "", OPTIONS, NULL)) != -1) {
		int status = parse_option(o, code);

		if (status >= 0)
			return status;
	}
	if (optind < argc) {
		log_error("'%s' is no option of portledgerd", argv[optind]);
		return EXIT_USAGE;
	}
	if (o->record && o->replay) {
		log_error("--record and --replay exclude each other");
		return EXIT_USAGE;
	}
	return -1;
}

/* On failure, what is wrong with it is logged, and in *ret_error (the caller's; NULL: no memory). */
static int load_config(const struct options *o, struct config *ret, char **ret_error)
{
	_cleanup_(free_p) char *error = NULL;
	int r = config_load(o->config ? o->config : DEFAULT_CONFIG, o->config != NULL, ret, &error);

	if (r == 0)
		return 0;
	if (!error)
		error = strdup(strerror(-r));
	log_event(LOG_EVENT_CONFIG_REFUSED, LOG_NO_FIELDS, "%s", error ? error : strerror(-r));
	*ret_error = TAKE_PTR(error);
	return r;
}

static void fail(struct daemon *d, int status)
{
	d->status = status;
	event_base_loopbreak(d->base);
}

static int on_ledger_started(void *context, int fd)
{
	struct daemon *d = context;

	return d->replay ? replay_link(d->replay, fd) : capture_link(d->capture, fd);
}

static void on_failed(void *context, int status)
{
	fail(context, status);
}

/* From now on somebody may ask. */
static int serve(struct daemon *d)
{
	int r = 0;

	if (d->listen_fd < 0) {
		r = listen_at(d->options.socket, d->socket_group, &d->listen_fd);
		if (r == 0 && lstat(d->options.socket, &d->socket) < 0)
			d->socket = (struct stat){0};
	}
	if (r < 0) {
		log_error("cannot listen at %s: %s", d->options.socket, listen_trouble(r));
		return r;
	}
	r = supervisor_start_control(d->supervisor, d->listen_fd);
	if (r < 0)
		log_error("cannot start control: %s", strerror(-r));
	return r;
}

/* ... though there is no database yet: why not. */
static void on_waits(void *context)
{
	struct daemon *d = context;

	if (serve(d) < 0)
		fail(d, EXIT_FAILURE);
}

/* The ledger has its database. */
static void on_ready(void *context)
{
	struct daemon *d = context;

	if (serve(d) < 0) {
		fail(d, EXIT_FAILURE);
		return;
	}
	log_notice("%s, answering at %s", d->replay ? "replaying" : "recording",
		d->passed ? "the socket that systemd passed" : d->options.socket);
}

/* Somebody answers: from the database, or why there is none yet. */
static void on_serving(void *context)
{
	struct daemon *d = context;

	if (!d->ready)
		service_ready(d->service);
	d->ready = true;
}

static void on_let_go(void *context, const struct events_fd *fds, size_t count)
{
	const struct daemon *d = context;

	for (size_t i = 0; i < count; i++)
		service_forget(d->service, fds[i].name);
}

/* Only a new process has the rights to attach them again. Whoever took them away may do it each time. */
static void on_fell(void *context, usec_t attached)
{
	struct daemon *d = context;
	usec_t wait = MIN(usec_sub(attached + ATTACH_USEC, clock_boot()), ATTACH_USEC);
	const struct timeval delay = {.tv_sec = (time_t)(wait / USEC_PER_SEC)};

	if (service_is_restarted() && event_base_loopexit(d->base, &delay) == 0)
		d->status = EXIT_FELL;
}

static bool on_look(void *context, usec_t grace)
{
	struct daemon *d = context;

	if (!d->ready || !supervisor_answered(d->supervisor))
		return false;
	if (d->capture &&
		usec_sub(clock_monotonic_usec(), capture_state(d->capture).due_monotonic) > grace)
		return false;
	supervisor_ask(d->supervisor);
	return true;
}

static void describe(void *context, char *text, size_t size)
{
	const struct daemon *d = context;
	int n = 0;

	if (d->refused)
		n = snprintf(text, size,
			"configuration refused (%.200s), goes on as before: ", d->refused);
	text += n;
	size -= (size_t)n;
	if (!d->capture) {
		(void)snprintf(text, size, "replaying");
		return;
	}
	capture_describe(d->capture, text, size);
}

static void reload(struct daemon *d)
{
	struct config config;

	service_reloading(d->service);
	free(TAKE_PTR(d->refused));
	if (load_config(&d->options, &config, &d->refused) < 0) {
		log_error("the configuration stays as it was");
	} else {
		config_done(&d->config);
		d->config = config;
		if (d->capture)
			capture_reload(d->capture, &d->config);
		log_event(LOG_EVENT_CONFIG_RELOADED, LOG_NO_FIELDS, "configuration reloaded");
	}
	/* Before the start is over, READY=1 is not this one's to say. */
	if (d->ready)
		service_ready(d->service);
}

static void on_reload(evutil_socket_t fd, short what, void *context)
{
	struct daemon *d = context;

	(void)fd;
	(void)what;
	d->reload_next = clock_monotonic_usec() + USEC_PER_SEC;
	reload(d);
}

/* However many ask for it: once a second, and once after the last of them. */
static void reload_soon(struct daemon *d)
{
	usec_t wait = usec_sub(d->reload_next, clock_monotonic_usec());
	const struct timeval later = {.tv_sec = (time_t)(wait / USEC_PER_SEC),
		.tv_usec = (suseconds_t)(wait % USEC_PER_SEC)};

	if (!event_pending(d->reloads, EV_TIMEOUT, NULL))
		(void)event_add(d->reloads, &later);
}

static void on_signal(evutil_socket_t fd, short what, void *context)
{
	struct daemon *d = context;
	struct signalfd_siginfo info;

	(void)what;
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		supervisor_reap(d->supervisor);
	else if (info.ssi_signo == SIGHUP)
		reload_soon(d);
	else
		fail(d, EXIT_SUCCESS);
}

static int catch_signals(struct daemon *d)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (d->signal_fd < 0)
		return -errno;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGXFSZ, SIG_IGN);
	d->signals = event_new(d->base, d->signal_fd, EV_READ | EV_PERSIST, on_signal, d);
	d->reloads = event_new(d->base, -1, 0, on_reload, d);
	return d->signals && d->reloads && event_add(d->signals, NULL) == 0 ? 0 : -ENOMEM;
}

static int open_file(const char *path, int flags, int *ret)
{
	int fd = open(path, flags | O_CLOEXEC, 0640);

	if (fd < 0) {
		log_error("cannot open %s: %s", path, strerror(errno));
		return -errno;
	}
	*ret = fd;
	return 0;
}

static int open_files(struct daemon *d)
{
	const struct options *o = &d->options;
	int r = state_open(o->state, &d->state_fd);

	if (r == -EPERM) /* what is wrong is how it was set up */
		d->status = EXIT_CONFIG;
	if (r == 0)
		r = open_file("/proc", O_RDONLY | O_DIRECTORY, &d->proc_fd);
	if (r == 0 && o->record)
		r = open_file(o->record, O_WRONLY | O_CREAT | O_TRUNC, &d->record_fd);
	if (r == 0 && o->replay)
		r = open_file(o->replay, O_RDONLY, &d->replay_fd);
	return r;
}

/* What is left of what systemd handed over: an earlier process may have kept it there. */
static size_t list_passed(const struct daemon *d, struct events_fd ret[static KEPT_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < d->handed.count && count < KEPT_MAX; i++)
		if (d->handed.fds[i].fd >= 0)
			ret[count++] = (struct events_fd){
				.fd = d->handed.fds[i].fd, .name = d->handed.fds[i].name};
	return count;
}

static int start_speaking(struct daemon *d)
{
	struct events_fd passed[KEPT_MAX];
	const struct capture_options capture = {
		.base = d->base,
		.config = &d->config,
		.proc_fd = d->proc_fd,
		.rung = d->options.rung,
		.netns_self = d->options.netns_self,
		.ring_bytes = d->options.ring_bytes,
		.passed = passed,
		.passed_count = list_passed(d, passed),
		.context = d,
		.let_go = on_let_go,
		.waits = on_waits,
		.restarts = service_is_restarted(),
		.fell = on_fell,
		.ready = on_ready,
	};
	const struct replay_options replay = {
		.base = d->base,
		.fd = d->replay_fd,
		.context = d,
		.ready = on_ready,
	};

	return d->options.replay ? replay_new(&replay, &d->replay)
				 : capture_new(&capture, &d->capture);
}

static int start_service(struct daemon *d)
{
	const struct service_options options = {
		.base = d->base, .context = d, .turns = on_look, .describe = describe};
	int r = service_new(&options, &d->service);

	if (r < 0)
		log_error("cannot tell systemd how it is: %s", strerror(-r));
	return r;
}

/* A socket of systemd's goes before --socket. */
static int take_passed(struct daemon *d)
{
	int r = passed_take(&d->handed);

	if (r == 0)
		r = listen_passed(&d->handed, &d->listen_fd);
	if (r < 0)
		log_error("the socket that systemd passed cannot be used: %s", strerror(-r));
	d->passed = r == 1;
	return r < 0 ? r : 0;
}

/* The kernel goes on with what these hold, whatever becomes of us: the next process takes it up where this one was. */
static void keep_events(struct daemon *d)
{
	struct events_fd fds[KEPT_MAX];
	size_t count = d->capture ? capture_fds(d->capture, fds, ELEMENTSOF(fds)) : 0;
	int r = 0;

	for (size_t i = 0; i < count; i++)
		if (!passed_let_go(&d->handed, fds[i].fd) && r == 0)
			r = service_keep(d->service, fds[i].fd, fds[i].name);
	if (r < 0 && r != -EAGAIN)
		log_warning("systemd does not keep what the kernel records with: %s", strerror(-r));
	/* what is still to be read stays where it is until then */
	count = d->capture ? capture_fds_before(d->capture, fds, ELEMENTSOF(fds)) : 0;
	for (size_t i = 0; i < count; i++)
		(void)passed_let_go(&d->handed, fds[i].fd);
}

/* Of another version of this program, or of other settings. Closed here only, they would come again with every start. */
static void drop_passed(struct daemon *d)
{
	for (size_t i = 0; i < d->handed.count; i++) {
		const struct passed_fd *p = &d->handed.fds[i];

		if (p->fd < 0)
			continue;
		log_debug("systemd passed '%s', which is of no use here", p->name);
		service_forget(d->service, p->name);
	}
	passed_done(&d->handed);
}

/* Once attached, events need no right: who reads /proc for their sake does. */
static enum privilege capture_privilege(const struct daemon *d)
{
	bool events = d->capture && capture_state(d->capture).rung == SOURCE_EVENTS;

	return events ? PRIVILEGE_EVENTS : PRIVILEGE_CAPTURE;
}

/* Two million rows of rollups take half a minute, which is as long as a start may: ended then, it would begin anew each time. */
static void expect_migration(struct daemon *d)
{
	if (!state_is_older(d->state_fd))
		return;
	log_info("the database is of an earlier version: it is migrated first");
	service_extend(d->service, MIGRATION_USEC, "migrating the database");
}

static int start(struct daemon *d)
{
	struct supervisor_options supervisor;
	int r = take_passed(d);

	if (r == 0)
		r = open_files(d);
	if (r < 0)
		return r;
	d->base = event_base_new();
	r = d->base ? catch_signals(d) : -ENOMEM;
	if (r < 0)
		log_error("no memory, or no descriptor, is left to begin with");
	if (r == 0)
		r = start_service(d);
	if (r == 0)
		r = start_speaking(d);
	if (r < 0)
		return r;
	expect_migration(d);
	supervisor = (struct supervisor_options){
		.base = d->base,
		.state_path = d->options.state,
		.state_fd = d->state_fd,
		.record_fd = d->record_fd,
		.replaying = d->options.replay != NULL,
		.handler = {.context = d,
			.ledger_started = on_ledger_started,
			.serving = on_serving,
			.failed = on_failed},
	};
	r = supervisor_new(&supervisor, &d->supervisor);
	if (r < 0)
		log_error("cannot start the ledger: %s", strerror(-r));
	keep_events(d);
	drop_passed(d);
	if (d->listen_fd < 0)
		d->socket_group = listen_group();
	/* After the fork: the children drop all; what is left here is what capture needs. */
	if (r == 0)
		r = privilege_drop(capture_privilege(d), -1);
	return r;
}

/* Unless somebody else's is there by now. */
static void remove_socket(const struct daemon *d)
{
	struct stat st;

	if (lstat(d->options.socket, &st) == 0 && st.st_dev == d->socket.st_dev &&
		st.st_ino == d->socket.st_ino)
		(void)unlink(d->options.socket);
}

static void stop(struct daemon *d)
{
	bool recorded;
	int status;

	if (!d->supervisor)
		return;
	service_stopping(d->service);
	recorded = d->capture && capture_stop(d->capture);
	if (d->replay)
		replay_stop(d->replay);
	status = supervisor_stop(d->supervisor, STOP_USEC);
	if (recorded)
		log_event(LOG_EVENT_RECORDING_STOPPED,
			LOG_FIELDS(LOG_NUMBER("STATUS", (uint64_t)status)), "recording stopped%s",
			status == EXIT_SUCCESS ? "" : "; not all could be written");
	if (status != EXIT_SUCCESS && d->status == EXIT_SUCCESS)
		d->status = EXIT_FAILURE;
	if (d->listen_fd >= 0 && !d->passed)
		remove_socket(d);
}

static void daemon_done(struct daemon *d)
{
	capture_free(d->capture);
	replay_free(d->replay);
	supervisor_free(d->supervisor);
	service_free(d->service);
	if (d->signals)
		event_free(d->signals);
	if (d->reloads)
		event_free(d->reloads);
	if (d->base)
		event_base_free(d->base);
	passed_done(&d->handed);
	close_p(&d->signal_fd);
	close_p(&d->listen_fd);
	close_p(&d->replay_fd);
	close_p(&d->record_fd);
	close_p(&d->state_fd);
	close_p(&d->proc_fd);
	config_done(&d->config);
	free(d->refused);
}

int main(int argc, char **argv)
{
	struct daemon d = {
		.options = {.state = DEFAULT_STATE, .socket = DEFAULT_SOCKET},
		.proc_fd = -1,
		.state_fd = -1,
		.record_fd = -1,
		.replay_fd = -1,
		.listen_fd = -1,
		.signal_fd = -1,
		.socket_group = LISTEN_NO_GROUP,
	};
	int status;

	standard_hold();
	(void)mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES);
	log_open("portledgerd", LOG_LEVEL_INFO);
	log_to_journal(JOURNAL_SOCKET);
	status = parse_options(&d.options, argc, argv);
	if (status >= 0)
		return status;
	if (d.options.forget.user || d.options.forget.since || d.options.forget.until)
		return forget_run(&d.options.forget, d.options.state, clock_now().wall);
	if (load_config(&d.options, &d.config, &d.refused) < 0) {
		d.status = EXIT_CONFIG;
		goto out;
	}
	if (d.options.check_config)
		goto out;
	if (start(&d) < 0)
		d.status = d.status == EXIT_SUCCESS ? EXIT_FAILURE : d.status;
	else
		event_base_dispatch(d.base);
	stop(&d);
out:
	daemon_done(&d);
	return d.status;
}
