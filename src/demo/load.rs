//! Fills the demo's tables through pgdrover.

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::schema::COUNTRIES;
use super::{Error, Sharding};

/// How many notifications each user gets.
pub const NOTIFICATIONS: i64 = 10;
/// Connections that load side by side.
const CONNECTIONS: usize = 8;
/// How many users' statements each connection has under way at once.
const PIPELINE: usize = 4;

const TITLES: [&str; 5] = [
    "Order confirmed",
    "Parcel on its way",
    "Parcel delivered",
    "Payment received",
    "How was it?",
];
const LANGUAGES: [&str; 4] = ["en", "de", "fr", "pl"];

/// The ids of the demo's users: 1, 2, 3 and so on; with ranges, as many at the start of
/// each shard's range.
pub fn user_ids(users: u32, sharding: Sharding, shards: u16) -> Vec<i64> {
    let each = users.div_ceil(u32::from(shards));
    let id = |user: u32| match sharding {
        Sharding::Modulo | Sharding::Ring => i64::from(user) + 1,
        Sharding::Range => {
            let start = Sharding::range_start((user / each) as u16, shards);
            start as i64 + i64::from(user % each) + 1
        }
    };
    (0..users).map(id).collect()
}

/// Gives each user ten notifications, preferences and a device, by statements that each
/// concern one user and so one shard. Calls `done` after each user.
///
/// # Errors
/// A statement fails; what was loaded before stays.
pub async fn load(target: &Config, users: &[i64], done: impl Fn()) -> Result<(), Error> {
    let done = &done;
    let share = users.len().div_ceil(CONNECTIONS).max(1);
    let loads = users.chunks(share).map(async |share| {
        let loader = Loader::connect(target).await?;
        let loader = &loader;
        stream::iter(share)
            .map(Ok)
            .try_for_each_concurrent(PIPELINE, async |&user| {
                loader.load_user(user).await?;
                done();
                Ok(())
            })
            .await
    });
    futures_util::future::try_join_all(loads).await?;
    Ok(())
}

/// One connection and its prepared statements.
struct Loader {
    client: Client,
    notifications: Statement,
    preferences: Statement,
    device: Statement,
}

impl Loader {
    async fn connect(target: &Config) -> Result<Loader, Error> {
        let said = || Error::sql("cannot prepare to load through pgdrover");
        let (client, connection) = target.connect(NoTls).await.map_err(said())?;
        // The client's own calls report a lost connection.
        tokio::spawn(async move { drop(connection.await) });
        let preferences =
            "INSERT INTO user_preferences (user_id, lang, sms_enabled) VALUES ($1, $2, $3)";
        let device = "INSERT INTO devices (user_id, token) VALUES ($1, $2)";
        Ok(Loader {
            notifications: client.prepare(&notifications_sql()).await.map_err(said())?,
            preferences: client.prepare(preferences).await.map_err(said())?,
            device: client.prepare(device).await.map_err(said())?,
            client,
        })
    }

    async fn load_user(&self, user: i64) -> Result<(), Error> {
        let numbers = (0..NOTIFICATIONS).map(|n| n as usize);
        let rows: Vec<_> = numbers
            .map(|n| {
                let country = COUNTRIES[(user as usize + n) % COUNTRIES.len()];
                let amount = ((user * 31 + n as i64 * 7) % 10_000) as f64 / 100.0;
                let id = user * NOTIFICATIONS + n as i64;
                (id, TITLES[n % TITLES.len()], country, amount)
            })
            .collect();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&user];
        for (id, title, country, amount) in &rows {
            parameters.extend([id as &(dyn ToSql + Sync), title, country, amount]);
        }
        let lang = LANGUAGES[user as usize % LANGUAGES.len()];
        let token = format!("device-{user}");
        let sms_enabled = user % 2 == 0;
        let preferences: [&(dyn ToSql + Sync); 3] = [&user, &lang, &sms_enabled];
        let device: [&(dyn ToSql + Sync); 2] = [&user, &token];
        tokio::try_join!(
            self.client.execute(&self.notifications, &parameters),
            self.client.execute(&self.preferences, &preferences),
            self.client.execute(&self.device, &device),
        )
        .map_err(Error::sql(format!("cannot load user {user}")))?;
        Ok(())
    }
}

/// Ten rows whose key is one parameter: the proof that they are on one shard.
fn notifications_sql() -> String {
    let row = |n: i64| {
        let first = 2 + 4 * n;
        format!(
            "(${first}, $1, ${}, ${}, ${}::float8)",
            first + 1,
            first + 2,
            first + 3
        )
    };
    let rows: Vec<_> = (0..NOTIFICATIONS).map(row).collect();
    format!(
        "INSERT INTO notifications (id, user_id, title, country, amount) VALUES {}",
        rows.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_100_exists_in_every_mode_and_shards_get_equal_ranges() {
        for sharding in [Sharding::Modulo, Sharding::Ring, Sharding::Range] {
            let users = user_ids(3000, sharding, 3);
            assert_eq!(users.len(), 3000);
            assert!(users.contains(&100), "{sharding:?}");
        }
        let users = user_ids(3000, Sharding::Range, 3);
        assert_eq!(users[999..=1000], [1000, 33_000_001]);
        assert_eq!(users[2999], 66_001_000);
        let last = *user_ids(3001, Sharding::Range, 7).last().unwrap();
        assert!(last < 100_000_000);
    }
}
