/* SPDX-License-Identifier: MIT */

/*
 * Loads the programs and attaches them, all to the root of the cgroup tree, beside those of others. What remains of it
 * are descriptors: of the links, which hold the programs, and of the maps that the reader needs.
 */

#include "daemon/capture/events.h"

#include "common/siphash.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/magic.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "claims_object.h"

#define LOG_BYTES          (256 * 1024)
#define ROOT_CGROUP        1 /* its id, and its inode */
#define SLOT_COUNT_DEFAULT 16384u
#define SLOT_COUNT_MIN     1024u
#define CGROUP_COUNT_MIN   1024u
#define CGROUP_COUNT_MAX   16384u
#define CGROUPS_PER_CPU    256u

#define ENDS_PROGRAM "on_tcp_destroy"

/* What a program is loaded for. */
enum set {
	SET_ALWAYS = 0,
	SET_UDP_FEXIT = 1 << 0,
	SET_FAILURES_FEXIT = 1 << 1,
	SET_UDP_EXITS = 1 << 2,
	SET_FAILURES_EXITS = 1 << 3,
};

enum attachment {
	ATTACH_CGROUP,
	ATTACH_TRACE,
	ATTACH_ITERATOR,
	ATTACH_SYSCALL,
};

/* The programs of the object; each is a part, in this order from PART_HOOKS on. */
static const struct hook {
	const char *program, *name;
	enum attachment attachment;
	unsigned sets;
} hooks[] = {
	{"on_snapshot", "snapshot", ATTACH_ITERATOR, SET_ALWAYS},
	/* ends first: what begins before their eyes ends before them, too */
	{"on_sock_release", "release", ATTACH_CGROUP, SET_ALWAYS},
	{ENDS_PROGRAM, "destroy", ATTACH_TRACE, SET_ALWAYS},
	{"on_sockops", "sockops", ATTACH_CGROUP, SET_ALWAYS},
	{"on_post_bind4", "postbind4", ATTACH_CGROUP, SET_ALWAYS},
	{"on_post_bind6", "postbind6", ATTACH_CGROUP, SET_ALWAYS},
	{"on_connect4", "connect4", ATTACH_CGROUP, SET_ALWAYS},
	{"on_connect6", "connect6", ATTACH_CGROUP, SET_ALWAYS},
	{"on_sendmsg4", "sendmsg4", ATTACH_CGROUP, SET_ALWAYS},
	{"on_sendmsg6", "sendmsg6", ATTACH_CGROUP, SET_ALWAYS},
	{"on_datagram_connect4", "udpconnect4", ATTACH_TRACE, SET_UDP_FEXIT},
	{"on_datagram_connect6", "udpconnect6", ATTACH_TRACE, SET_UDP_FEXIT},
	{"on_udp_disconnect", "udpdisconnect", ATTACH_TRACE, SET_UDP_FEXIT},
	{"on_inet_bind", "failbind4", ATTACH_TRACE, SET_FAILURES_FEXIT},
	{"on_inet6_bind", "failbind6", ATTACH_TRACE, SET_FAILURES_FEXIT},
	{"on_hash_connect", "hash4", ATTACH_TRACE, SET_FAILURES_FEXIT},
	{"on_hash_connect6", "hash6", ATTACH_TRACE, SET_FAILURES_FEXIT},
	{"on_bind4", "bind4", ATTACH_CGROUP, SET_FAILURES_EXITS},
	{"on_bind6", "bind6", ATTACH_CGROUP, SET_FAILURES_EXITS},
	{"on_exit_bind", "sys_exit_bind", ATTACH_SYSCALL, SET_FAILURES_EXITS},
	{"on_exit_connect", "sys_exit_connect", ATTACH_SYSCALL, SET_FAILURES_EXITS | SET_UDP_EXITS},
#ifdef EVENTS_HOOK_MORE /* the test of upgrades: tests/support/earlier.h */
	EVENTS_HOOK_MORE,
#endif
};
_Static_assert(PART_HOOKS + ELEMENTSOF(hooks) <= EVENTS_FDS_MAX, "each has a descriptor");

static const char *const part_names[] = {
	[PART_RING] = "ring",
	[PART_SHARED] = "shared",
	[PART_PROCESSES] = "processes",
	[PART_CGROUPS] = "cgroups",
	[PART_ENDS] = "ends",
};

size_t events_parts(void)
{
	return PART_HOOKS + ELEMENTSOF(hooks);
}

bool events_part_is_optional(size_t part)
{
	return part == PART_ENDS ||
	       (part >= PART_HOOKS && hooks[part - PART_HOOKS].sets != SET_ALWAYS);
}

const char *events_part_name(size_t part)
{
	assert(part < events_parts());
	return part < PART_HOOKS ? part_names[part] : hooks[part - PART_HOOKS].name;
}

uint64_t events_object_hash(void)
{
	const struct siphash_key key = {{CLAIMS_LAYOUT, 0}};

	return siphash(&key, claims_object, sizeof(claims_object));
}

void events_kernel_done(struct events_kernel *k)
{
	for (size_t i = 0; i < ELEMENTSOF(k->fds); i++) {
		close_p(&k->fds[i]);
		k->fds[i] = -1;
	}
	close_p(&k->root_fd);
	k->root_fd = -1;
	bpf_object__close(k->object);
	k->object = NULL;
	k->count = 0;
}

/* libbpf's words go nowhere: what is worth saying becomes an obstacle. */
static int say_nothing(enum libbpf_print_level level _unused_, const char *text _unused_,
	va_list arguments _unused_)
{
	return 0;
}

/* ---- the root of the cgroup tree ---- */

/* Where cgroup2 is mounted whole, from a line of mountinfo (proc(5)): "36 35 98:0 / /sys/fs/cgroup ... - cgroup2 ...". */
static bool parse_mount(char *line, char **ret_path)
{
	char *type = strstr(line, " - cgroup2 "), *root, *path, *end;

	if (!type)
		return false;
	root = line;
	for (int i = 0; i < 3 && root; i++) {
		root = strchr(root, ' ');
		root = root ? root + 1 : NULL;
	}
	if (!root || strncmp(root, "/ ", 2) != 0)
		return false;
	path = root + 2;
	end = strchr(path, ' ');
	if (!end)
		return false;
	*end = '\0';
	*ret_path = path;
	return true;
}

/* Something else may be mounted over it. */
static bool is_cgroup(int fd)
{
	struct statfs filesystem;

	return fstatfs(fd, &filesystem) == 0 && filesystem.f_type == CGROUP2_SUPER_MAGIC;
}

uint64_t events_cgroup_id(int fd)
{
	struct stat status;

	return fstat(fd, &status) == 0 ? status.st_ino : 0;
}

/* Where only a part of the tree is to be seen (a container, which has a cgroup namespace), the root of that part. */
static int open_root(bool *ret_whole, struct events_obstacle *ret_obstacle)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	_cleanup_(close_p) int found = -1;
	char *line = NULL, *path;
	size_t size = 0;
	bool whole = false;

	while (mounts && !whole && getline(&line, &size, mounts) > 0) {
		int fd = parse_mount(line, &path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
						  : -1;
		bool usable = fd >= 0 && is_cgroup(fd);

		whole = usable && events_cgroup_id(fd) == ROOT_CGROUP;
		if (usable && (whole || found < 0)) {
			close_p(&found);
			found = fd;
		} else {
			close_p(&fd);
		}
	}
	free(line);
	if (mounts)
		(void)fclose(mounts);
	if (found >= 0) {
		*ret_whole = whole;
		return TAKE_FD(found);
	}
	*ret_obstacle = (struct events_obstacle){
		.reason = "the cgroup tree is not mounted here (cgroup2)",
		.remedy = "mount -t cgroup2 none /sys/fs/cgroup/unified",
	};
	return -ENOENT;
}

/* ---- load ---- */

static void close_object_p(struct bpf_object **object)
{
	bpf_object__close(*object);
}

static uint32_t slot_count(uint32_t ring_bytes)
{
	uint32_t count = MIN(SLOT_COUNT_DEFAULT, ring_bytes / 256);

	return MAX(SLOT_COUNT_MIN, count);
}

/* Each processor takes 128 free places of an LRU map at a time, and others make room for it: of few places that would be those that nobody has
 * read yet. */
static uint32_t cgroup_count(void)
{
	int processors = libbpf_num_possible_cpus();
	uint32_t count = CGROUPS_PER_CPU * (uint32_t)MAX(processors, 1);

	count = MIN(CGROUP_COUNT_MAX, count);
	return MAX(CGROUP_COUNT_MIN, count);
}

static int set_size(struct bpf_object *object, const char *map, uint32_t entries)
{
	struct bpf_map *m = bpf_object__find_map_by_name(object, map);

	return m ? bpf_map__set_max_entries(m, entries) : -ENOENT;
}

static struct bpf_object *open_object(char *said)
{
	LIBBPF_OPTS(bpf_object_open_opts, o, .object_name = "portledger", .kernel_log_buf = said,
		.kernel_log_size = LOG_BYTES);

	(void)libbpf_set_print(say_nothing);
	return bpf_object__open_mem(claims_object, sizeof(claims_object), &o);
}

/* May the exits of system calls have to be looked at? */
static bool may_want_exits(const struct source_events_options *options)
{
	return options->udp_connect == EVENTS_EXTRA_YES || options->failures == EVENTS_EXTRA_YES;
}

static int load(const struct source_events_options *options, uint32_t ring_bytes, char *said,
	struct bpf_object **ret)
{
	_cleanup_(close_object_p) struct bpf_object *object = open_object(said);
	int r;

	if (!object)
		return -errno;
	r = set_size(object, "ring", ring_bytes);
	if (r == 0)
		r = set_size(object, "processes", slot_count(ring_bytes));
	if (r == 0)
		r = set_size(object, "identities", slot_count(ring_bytes));
	if (r == 0)
		r = set_size(object, "cgroups", cgroup_count());
	/* 2 MiB that nobody would use */
	if (r == 0 && !may_want_exits(options))
		r = set_size(object, "attempts", 1);
	if (r == 0 && !may_want_exits(options))
		r = set_size(object, "connects", 1);
	if (r == 0)
		r = bpf_object__load(object);
	if (r == 0)
		*ret = TAKE_PTR(object);
	return r;
}

/* ---- attach ---- */

/* A descriptor that is ours: libbpf's goes with its object. */
static int keep(int fd, int *ret)
{
	*ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return *ret < 0 ? -errno : 0;
}

static int keep_map(struct bpf_object *object, const char *name, int *ret)
{
	struct bpf_map *m = NULL;

	if (name)
		return keep(bpf_object__find_map_fd_by_name(object, name), ret);
	/* the section has a name of libbpf's making */
	bpf_object__for_each_map(
		m, object) if (bpf_map__value_size(m) ==
			       sizeof(struct claims_shared)) return keep(bpf_map__fd(m), ret);
	return -ENOENT;
}

/* The number of an event of tracefs. 0 or negative errno. */
static int tracepoint_id(const char *name, uint64_t *ret)
{
	static const char *const mounts[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
	char path[128], text[32];
	int r = -ENOENT;

	for (size_t i = 0; i < ELEMENTSOF(mounts); i++) {
		_cleanup_(close_p) int fd = -1;
		ssize_t n;

		(void)snprintf(path, sizeof(path), "%s/events/syscalls/%s/id", mounts[i], name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		if (n > 0) {
			text[n] = '\0';
			*ret = strtoull(text, NULL, 10);
			return 0;
		}
		r = fd < 0 ? -errno : -EIO;
	}
	return r;
}

/* libbpf would keep a second descriptor, and switch the event off when its link goes. */
static int attach_syscall(int program_fd, const char *name, int *ret)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_TRACEPOINT,
		.size = sizeof(attributes),
	};
	_cleanup_(close_p) int event = -1;
	uint64_t id;
	int r = tracepoint_id(name, &id);

	if (r < 0)
		return r;
	attributes.config = id;
	event = (int)syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (event < 0)
		return -errno;
	*ret = bpf_link_create(program_fd, event, BPF_PERF_EVENT, NULL);
	return *ret < 0 ? -errno : 0;
}

static int attach_link(struct bpf_program *program, enum attachment attachment, int root, int *ret)
{
	struct bpf_link *link =
		attachment == ATTACH_CGROUP  ? bpf_program__attach_cgroup(program, root)
		: attachment == ATTACH_TRACE ? bpf_program__attach_trace(program)
					     : bpf_program__attach_iter(program, NULL);
	int r;

	if (!link)
		return -errno;
	r = keep(bpf_link__fd(link), ret);
	(void)bpf_link__destroy(link);
	return r;
}

static int attach(struct bpf_object *object, const struct hook *h, int root, int *ret)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, h->program);

	if (!program)
		return -ENOENT;
	return h->attachment == ATTACH_SYSCALL
		       ? attach_syscall(bpf_program__fd(program), h->name, ret)
		       : attach_link(program, h->attachment, root, ret);
}

static int keep_parts(struct bpf_object *object, struct events_kernel *k)
{
	int r = keep_map(object, "ring", &k->fds[PART_RING]);

	if (r == 0)
		r = keep_map(object, NULL, &k->fds[PART_SHARED]);
	if (r == 0)
		r = keep_map(object, "processes", &k->fds[PART_PROCESSES]);
	if (r == 0)
		r = keep_map(object, "cgroups", &k->fds[PART_CGROUPS]);
	if (r == 0)
		r = keep(bpf_program__fd(bpf_object__find_program_by_name(object, ENDS_PROGRAM)),
			&k->fds[PART_ENDS]);
	return r;
}

int events_load(const struct source_events_options *options, uint32_t ring_bytes,
	struct events_kernel *ret, struct events_obstacle *ret_obstacle)
{
	_cleanup_(free_p) char *said = calloc(1, LOG_BYTES);
	struct events_kernel k = {
		.ring_bytes = ring_bytes,
		.slots = slot_count(ring_bytes),
		.count = events_parts(),
		.layout = CLAIMS_LAYOUT,
		.root_fd = -1,
	};
	int r;

	if (!said)
		return -ENOMEM;
	memset(k.fds, 0xff, sizeof(k.fds));
	r = load(options, ring_bytes, said, &k.object);
	if (r == 0)
		r = keep_parts(k.object, &k);
	if (r < 0) {
		*ret_obstacle = events_obstacle_of(r, said);
		events_kernel_done(&k);
		return r;
	}
	k.root_fd = open_root(&k.whole, ret_obstacle);
	if (k.root_fd < 0) {
		r = k.root_fd;
		events_kernel_done(&k);
		return r;
	}
	*ret = k;
	return 0;
}

/* ---- what is not always attached ---- */

/* The same object once more, with the maps of the first, and of its programs only these. */
static int load_more(struct bpf_object *first, unsigned sets, char *said, struct bpf_object **ret)
{
	_cleanup_(close_object_p) struct bpf_object *object = open_object(said);
	struct bpf_program *program;
	struct bpf_map *from = NULL, *to = NULL;
	int r = object ? 0 : -errno;

	if (r < 0)
		return r;
	bpf_object__for_each_program(program, object)(void)
		bpf_program__set_autoload(program, false);
	for (size_t i = 0; r == 0 && i < ELEMENTSOF(hooks); i++) {
		program = bpf_object__find_program_by_name(object, hooks[i].program);
		if (hooks[i].sets & sets)
			r = program ? bpf_program__set_autoload(program, true) : -ENOENT;
	}
	while (r == 0 && (to = bpf_object__next_map(object, to)) != NULL) {
		from = bpf_object__next_map(first, from);
		r = from ? bpf_map__reuse_fd(to, bpf_map__fd(from)) : -ENOENT;
	}
	if (r == 0)
		r = bpf_object__load(object);
	if (r == 0)
		*ret = TAKE_PTR(object);
	return r;
}

/* All of these sets or nothing. */
static bool attach_more(struct events_kernel *k, unsigned sets, int root)
{
	_cleanup_(close_object_p) struct bpf_object *object = NULL;
	_cleanup_(free_p) char *said = calloc(1, LOG_BYTES);
	int r = said ? load_more(k->object, sets, said, &object) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(hooks); i++)
		if (hooks[i].sets & sets)
			r = attach(object, &hooks[i], root, &k->fds[PART_HOOKS + i]);
	for (size_t i = 0; r < 0 && i < ELEMENTSOF(hooks); i++) {
		if (!(hooks[i].sets & sets))
			continue;
		close_p(&k->fds[PART_HOOKS + i]);
		k->fds[PART_HOOKS + i] = -1;
	}
	return r == 0;
}

/*
 * May such a program be loaded at all? Who may not is told so before the kernel looks at what it is for, and without the reading of
 * all types of the kernel that the question costs libbpf: 25 ms each time.
 */
static bool fexit_is_refused(void)
{
	static const struct bpf_insn nothing[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, o, .expected_attach_type = BPF_TRACE_FEXIT,
		.attach_btf_id = 1); /* no function: otherwise it is invalid */
	int fd = bpf_prog_load(
		BPF_PROG_TYPE_TRACING, NULL, "Dual BSD/GPL", nothing, ELEMENTSOF(nothing), &o);
	bool refused = fd == -EPERM;

	close_p(&fd);
	return refused;
}

/* Those of `sets` that can be had: at once if possible, else each by itself. */
static unsigned attach_fexits(struct events_kernel *k, unsigned sets, int root)
{
	unsigned had = 0;

	if (sets == 0 || fexit_is_refused())
		return 0;
	if (attach_more(k, sets, root))
		return sets;
	for (unsigned set = 1; sets != set && set <= sets; set <<= 1)
		if (sets & set && attach_more(k, set, root))
			had |= set;
	return had;
}

static void attach_extras(
	struct events_kernel *k, const struct source_events_options *options, int root)
{
	unsigned fexits = 0, exits = 0;

	if (options->udp_connect != EVENTS_EXTRA_NO)
		fexits |= SET_UDP_FEXIT;
	if (options->failures != EVENTS_EXTRA_NO)
		fexits |= SET_FAILURES_FEXIT;
	fexits = attach_fexits(k, fexits, root);
	k->udp_connect = fexits & SET_UDP_FEXIT;
	k->failures = fexits & SET_FAILURES_FEXIT;
	if (options->udp_connect == EVENTS_EXTRA_YES && !k->udp_connect)
		exits |= SET_UDP_EXITS;
	if (options->failures == EVENTS_EXTRA_YES && !k->failures)
		exits |= SET_FAILURES_EXITS;
	if (exits == 0 || !attach_more(k, exits, root))
		return;
	if (exits & SET_UDP_EXITS) {
		k->udp_connect = true;
		k->exits |= EXITS_UDP_CONNECT;
	}
	if (exits & SET_FAILURES_EXITS) {
		k->failures = true;
		k->exits |= EXITS_FAILURES;
	}
}

int events_attach(struct events_kernel *k, const struct source_events_options *options,
	struct events_obstacle *ret_obstacle)
{
	_cleanup_(close_p) int root = TAKE_FD(k->root_fd);
	int r = 0;

	for (size_t i = 0; r == 0 && i < ELEMENTSOF(hooks); i++)
		if (hooks[i].sets == SET_ALWAYS)
			r = attach(k->object, &hooks[i], root, &k->fds[PART_HOOKS + i]);
	if (r < 0)
		*ret_obstacle = events_obstacle_of(r, "");
	else
		attach_extras(k, options, root);
	bpf_object__close(k->object);
	k->object = NULL;
	return r;
}

bool events_attached(const struct events_kernel *k)
{
	for (size_t i = PART_HOOKS; i < k->count; i++) {
		struct bpf_link_info info = {0};
		uint32_t size = sizeof(info);

		if (k->fds[i] >= 0 && bpf_obj_get_info_by_fd(k->fds[i], &info, &size) == 0 &&
			info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == 0)
			return false;
	}
	return true;
}

uint64_t events_skipped(const struct events_kernel *k)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);
	int fd = k->fds[PART_ENDS];

	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 ? info.recursion_misses : 0;
}
