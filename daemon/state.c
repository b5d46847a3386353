/* SPDX-License-Identifier: MIT */

#include "daemon/state.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "common/log.h"

static const char *trouble(const struct stat *st)
{
	if (st->st_mode & S_IWOTH)
		return "everybody may write there: chmod o-w";
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "it is another user's: chown it, or give another --state";
	return NULL;
}

int state_open(const char *path, int *ret_fd)
{
	_cleanup_(close_p) int fd = -1;
	const char *refused;
	struct stat st;
	int r;

	if (mkdir(path, 0750) < 0 && errno != EEXIST) {
		r = -errno;
		log_error("cannot make %s: %s", path, strerror(-r));
		return r;
	}
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0) {
		r = -errno;
		log_error("cannot open %s: %s", path, strerror(-r));
		return r;
	}
	refused = trouble(&st);
	if (refused) {
		log_error("the state directory %s is refused: %s", path, refused);
		return -EPERM;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
