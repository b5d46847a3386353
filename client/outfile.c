/* SPDX-License-Identifier: MIT */

#include "client/outfile.h"

#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>

/* PATH is a name that may be replaced: free, or a regular file. */
static int check_place(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0)
		return S_ISREG(st.st_mode) ? 0 : -EEXIST;
	return errno == ENOENT ? 0 : -errno;
}

int outfile_open(const char *path, struct outfile *ret)
{
	_cleanup_(outfile_done) struct outfile f = OUTFILE_NONE;
	mode_t mask;
	int r = check_place(path), fd;

	if (r < 0)
		return r;
	f.path = strdup(path);
	if (!f.path || asprintf(&f.temporary, "%s.XXXXXX", path) < 0) {
		f.temporary = NULL;
		return -ENOMEM;
	}
	fd = mkostemp(f.temporary, O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		free(TAKE_PTR(f.temporary)); /* it was not made: nothing to remove */
		return r;
	}
	f.file = fdopen(fd, "w");
	if (!f.file) {
		r = -errno;
		close(fd);
		return r;
	}
	/* as any file that a program of this user makes; only this thread is there to see the mask */
	mask = umask(0);
	(void)umask(mask);
	if (fchmod(fd, 0666 & ~mask) < 0)
		return -errno;
	*ret = f;
	f = (struct outfile)OUTFILE_NONE;
	return 0;
}

static int sync_directory(const char *path)
{
	_cleanup_(free_p) char *copy = strdup(path);
	int fd, r = 0;

	if (!copy)
		return -ENOMEM;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* some file systems have no way to say so */
	if (fsync(fd) < 0 && errno != EINVAL)
		r = -errno;
	close(fd);
	return r;
}

int outfile_commit(struct outfile *f)
{
	int r = 0;

	if (fflush(f->file) == EOF || ferror(f->file) || fsync(fileno(f->file)) < 0)
		r = errno ? -errno : -EIO;
	if (fclose(TAKE_PTR(f->file)) == EOF && r == 0)
		r = -errno;
	if (r == 0)
		r = check_place(f->path);
	if (r == 0 && rename(f->temporary, f->path) < 0)
		r = -errno;
	if (r < 0)
		return r;
	free(TAKE_PTR(f->temporary));
	return sync_directory(f->path);
}

void outfile_done(struct outfile *f)
{
	if (f->file)
		(void)fclose(f->file);
	if (f->temporary)
		(void)unlink(f->temporary);
	free(f->temporary);
	free(f->path);
	*f = (struct outfile)OUTFILE_NONE;
}
